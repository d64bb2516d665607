"""The whole loop, once: clicks become judgements, judgements a model, the model a test, and its winner what serves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from django.core.management import call_command

from catalog.management.commands.make_sample_shop import write_shop, write_table
from catalog.models import Product
from experiments import control, reports
from experiments.models import Experiment, Variant
from retrieval import registry
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.types import EngineError, Query
from retrieval.evaluation.gate import HELD_OUT, judge
from retrieval.evaluation.metrics import ndcg
from retrieval.generations import get_analyzer
from retrieval.learning.examples import LabelledQuery, split_queries
from retrieval.live import TWO_TOWER
from retrieval.models import ModelVersion
from retrieval.promotion import promote
from retrieval.setup import get_pipeline

JUDGEMENTS, CHALLENGER, CHAMPION = "loop-clicks", "loop-towers", "champion"
BROKEN = {"fusion": "lexical", "lexical_share": 1.0, "correct_spelling": False, "depth": 10}
EXPLORED = {"dense_weight": 0.3, "fusion": "weighted"}
ASKED = ("asked-queries.tsv", "asked-qrels.tsv")
BOTS = "0.002"  # of the visitors: each searches as often as a hundred others, which takes time and teaches nothing
ENOUGH = "3"  # looks at a product for a grade: many queries known a little teach more than a few known well
# Small batches: where there are few clicks, many steps teach more than many negatives.
TRAINING = ("--rounds", "1", "--batch-size", "128", "--learning-rate", "6e-4")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: products and queries of the shop, visitors of each part, steps of the training."""

    products: int = 3000
    queries: int = 4000
    visitors: int = 9000
    tested: int = 8000  # visitors of the A/B test
    mixed: int = 1500  # visitors of the interleaving
    broken: int = 2000  # visitors of the test of a broken ranking
    steps: int = 80
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was done, and what came of it."""

    step: str
    result: str


@dataclass(frozen=True)
class Loop:
    """A loop over a shop of its own in `folder`; `tell` is given what each step does before it does it."""

    folder: Path
    size: Size
    tell: Callable[[str], None] = lambda text: None

    def run(self) -> Iterator[Row]:
        """Yield a row after each step. Raises CommandError or EngineError where one cannot be done."""
        yield from self.open_shop()
        yield from self.learn_from_clicks()
        yield self.judge("gate, by true grades", self.held_out)
        yield from self.test_by_interleaving()
        yield from self.test_by_purchases()
        yield from self.stop_a_broken_one()

    # --- the steps -------------------------------------------------------------------------------------

    def open_shop(self) -> Iterator[Row]:
        """Fill and index the shop; its queries are split before anybody asks one."""
        if ModelVersion.objects.filter(name=CHALLENGER).exists():
            raise EngineError(f"{CHALLENGER} is there from an earlier loop: name an empty SEARCHSITE_DATA_DIR")
        self.tell("filling and indexing the shop")
        count = write_shop(self.folder, self.size.products, self.size.queries, self.size.seed)
        if not Product.objects.exists():
            self._call("import_products", str(self.folder / "products.jsonl.gz"))
            self._call("reindex")
        self._write_asked()
        asked = count - len(self.held_out)
        yield Row("shop", f"{self.size.products:,} products; {asked:,} queries asked, {len(self.held_out):,} kept out")

    def learn_from_clicks(self) -> Iterator[Row]:
        """Shoppers use the champion; two towers learn from their clicks alone, and meet the gate.

        The champion is interleaved with another ranking meanwhile: where a product always has the same place, nobody
        can tell what its place and what the product itself is worth.
        """
        experiment = self.start("loop-collecting", Experiment.Kind.INTERLEAVING, EXPLORED)
        yield self._row("shoppers of the champion", self.simulate(self.size.visitors, 1))
        control.stop(experiment, "collected")
        self.tell("judging by clicks")
        judged = self._call("judge_clicks", JUDGEMENTS, "--minimum-examined", ENOUGH, "--minimum-clicks", "1")
        yield self._row("judgements by the click model", judged)
        self.tell("training the challenger from judgements alone")
        source = ("--source", f"judgements:{JUDGEMENTS}")
        self._call("finetune", "--name", CHALLENGER, *source, "--steps", str(self.size.steps), *TRAINING)
        verdict = self.challenger.verdict
        yield Row("gate, by held-out clicks", str(verdict.get("reason", "not judged")))
        self._call("reindex", "--model", CHALLENGER)

    def test_by_interleaving(self) -> Iterator[Row]:
        """Both rankings on one page."""
        experiment = self.start("loop-interleaving", Experiment.Kind.INTERLEAVING, self.changes)
        self.simulate(self.size.mixed, 2)
        yield Row("interleaving", self.report(experiment)["sentence"])
        control.stop(experiment, "decided")

    def test_by_purchases(self) -> Iterator[Row]:
        """An A/B test; the winner serves everybody."""
        experiment = self.start("loop-ab", Experiment.Kind.AB, self.changes)
        self.simulate(self.size.tested, 3)
        found = self.report(experiment)
        yield Row("A/B test", found["sentence"])
        experiment.refresh_from_db()
        is_running = experiment.is_running  # no guardrail has stopped it
        control.stop(experiment, "decided")
        if is_running and found["state"] == "winner":
            promote(TWO_TOWER, str(registry.folder_of(CHALLENGER)))
            yield Row("promoted", f"{CHALLENGER} serves")
        else:
            yield Row("promoted", f"nothing: the test says {found['state']!r}")

    def stop_a_broken_one(self) -> Iterator[Row]:
        """A ranking broken on purpose is stopped by its guardrails."""
        experiment = self.start("loop-broken", Experiment.Kind.AB, BROKEN)
        self.simulate(self.size.broken, 4)
        self.report(experiment)
        experiment.refresh_from_db()
        yield Row("a broken ranking", experiment.stop_reason or "was not stopped")

    # --- what they share -------------------------------------------------------------------------------

    @property
    def challenger(self) -> ModelVersion:
        return ModelVersion.objects.get(name=CHALLENGER)

    @property
    def changes(self) -> dict[str, Any]:
        return {"model": self.challenger.exported}

    @cached_property
    def grades(self) -> dict[str, dict[str, float]]:
        """True grades by query text and SKU."""
        texts = {row["query_id"]: row["query"] for row in _read(self.folder / "queries.tsv")}
        found: dict[str, dict[str, float]] = {text: {} for text in texts.values()}
        for row in _read(self.folder / "qrels.tsv"):
            found[texts[row["query_id"]]][row["doc_id"]] = float(row["relevance"])
        return found

    @cached_property
    def held_out(self) -> list[str]:
        """The queries that no shopper asks, none of them nearly the same as one that is asked."""
        queries = [LabelledQuery(text, {1: 3.0}, "truth") for text in self.grades]
        split = split_queries(queries, get_analyzer(), seed=self.size.seed)
        return [query.text for query in split.held_out]

    def judge(self, step: str, texts: list[str]) -> Row:
        """Return the gate's verdict by true grades of these queries; clicks know only what the champion showed."""
        self.tell("comparing both by true grades")
        own = get_config("hybrid")
        changed = SearchConfig.from_dict(own.to_dict() | self.changes)
        before, after = self._score(own, texts), self._score(changed, texts)
        return Row(step, f"{judge({HELD_OUT: before}, {HELD_OUT: after}).reason}, {before.mean():.3f} before")

    def _score(self, config: SearchConfig, texts: list[str]) -> npt.NDArray[np.float64]:
        pipeline = get_pipeline(config)
        ids = dict(Product.objects.values_list("sku", "pk"))
        scores = []
        for text in texts:
            graded = {ids[sku]: grade for sku, grade in self.grades[text].items() if sku in ids}
            hits = pipeline.search(Query(text, page_size=10)).hits
            scores.append(ndcg([hit.product_id for hit in hits], graded))
        return np.array(scores)

    def _write_asked(self) -> None:
        """Write the queries that shoppers ask with their grades, beside all of them."""
        kept = set(self.held_out)
        asked = {
            row["query_id"]: row["query"] for row in _read(self.folder / "queries.tsv") if row["query"] not in kept
        }
        grades = [tuple(row.values()) for row in _read(self.folder / "qrels.tsv") if row["query_id"] in asked]
        write_table(self.folder / ASKED[0], ("query_id", "query"), asked.items())
        write_table(self.folder / ASKED[1], ("query_id", "doc_id", "relevance"), grades)

    def simulate(self, visitors: int, seed: int) -> dict[str, Any]:
        self.tell(f"{visitors:,} shoppers")
        truth = ",".join(str(self.folder / name) for name in ASKED)
        plan = ("--visitors", str(visitors), "--seed", str(seed), "--days", "7", "--bots", BOTS)
        return self._call("simulate_shoppers", *plan, "--truth", truth, "--backdate")

    def start(
        self, name: str, kind: str, changes: Mapping[str, Any], own: Mapping[str, Any] | None = None
    ) -> Experiment:
        """Return a running experiment of a champion, changed by `own`, and a challenger; an older one is deleted."""
        Experiment.objects.filter(name=name).delete()
        experiment = Experiment.objects.create(name=name, kind=kind, metric="ctr", hypothesis="The loop's own.")
        Variant.objects.create(experiment=experiment, name=CHAMPION, is_champion=True, changes=dict(own or {}))
        Variant.objects.create(experiment=experiment, name="challenger", changes=dict(changes))
        control.start(experiment)
        experiment.refresh_from_db()
        return experiment

    @staticmethod
    def report(experiment: Experiment) -> dict[str, Any]:
        experiment.refresh_from_db()
        content: dict[str, Any] = reports.refresh(experiment).content
        return content

    @staticmethod
    def _call(command: str, *options: str) -> dict[str, Any]:
        """Run a command and return what it prints as JSON."""
        output = StringIO()
        call_command(command, *options, "--json", stdout=output)
        found: dict[str, Any] = json.loads(output.getvalue() or "{}")
        return found

    @staticmethod
    def _row(step: str, facts: Mapping[str, Any]) -> Row:
        flat = {name: value for name, value in facts.items() if isinstance(value, int | float | str) and value != ""}
        return Row(step, ", ".join(f"{name} {value}" for name, value in flat.items()))


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")
