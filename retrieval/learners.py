"""How each kind of model is trained on what was collected, and how its search is scored. Brings torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval import live, registry
from retrieval.embedding import embed_texts
from retrieval.engine.config import RERANK_BLEND, RERANK_DEPTH
from retrieval.engine.encoders import TwoTowerEncoder, count_from
from retrieval.engine.files import write_atomically
from retrieval.engine.fusion import Floats
from retrieval.engine.parts import Reranker
from retrieval.engine.types import Vectors
from retrieval.generations import get_analyzer
from retrieval.judging import Court, make_config, make_shops
from retrieval.learning import cross_encoder
from retrieval.learning.averaging import average_adapters, check_averageable
from retrieval.learning.cross_encoder import CrossEncoderSettings, GradedList, build_lists
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.export import export_encoder
from retrieval.learning.kin import spare_kin
from retrieval.learning.rounds import train_in_rounds
from retrieval.learning.sources import fetch, find_tower, is_untied, resolve_model
from retrieval.learning.towers import Towers
from retrieval.learning.two_tower import TwoTowerSettings
from retrieval.lessons import Learner, Lesson, OnRound, load_encoder, load_reranker
from retrieval.live import CROSS_ENCODER, TWO_TOWER, find_live
from retrieval.pseudo_source import find_teacher
from retrieval.readers import export_reader
from retrieval.reading import Reading
from retrieval.setup import get_encoder, get_reranker
from retrieval.training_data import training_texts
from retrieval.training_settings import split_names
from retrieval.training_sources import PSEUDO, is_rated, make_sample_pairs

MADE_STRENGTH = 0.5  # of towers that learned from no query that people asked: more of it pleases who made them
CANDIDATES = 40  # products found for a query that lists are made of


def make_learner(lesson: Lesson) -> Learner:
    return TwoTowerLearner(lesson) if lesson.run.kind == TWO_TOWER else CrossEncoderLearner(lesson)


# --- two towers ---------------------------------------------------------------------------------------


@dataclass
class TowersNow:
    """Towers while they learn, as the encoder of a search; texts are cut as their base cuts them."""

    towers: Towers
    base: TwoTowerEncoder
    model_version: str
    max_tokens: int

    def count_tokens(self, text: str) -> int:
        return self.base.count_tokens(text)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self.towers.encode_queries(texts)

    def encode_products(self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None) -> Vectors:
        return self.towers.encode_products(texts, on_progress or (lambda done: None))


@dataclass(frozen=True)
class TwoTowerLearner:
    lesson: Lesson

    @cached_property
    def settings(self) -> TwoTowerSettings:
        lesson = self.lesson
        given = lesson.pick(
            (
                "towers",
                "rounds",
                "batch_size",
                "learning_rate",
                "temperature",
                "distillation",
                "strength",
                "max_tokens",
                "lora_rank",
                "seed",
                "compile",
            )
        )
        if "towers" not in given and is_untied(fetch(resolve_model(lesson.base))):
            given["towers"] = "untied"  # as its base: else what its queries' own tower knows would be dropped
        if not any(is_rated(name) for name, _ in lesson.run.sources):
            given.setdefault("strength", MADE_STRENGTH)
        settings = TwoTowerSettings(**given)
        if "steps" in lesson.settings:
            settings = replace(settings, rows=lesson.settings["steps"] * settings.batch_size)
        return replace(settings, lora_rank=0) if lesson.settings.get("full") else settings

    @cached_property
    def base(self) -> TwoTowerEncoder:
        return load_encoder(export_encoder(self.lesson.base, live.MODELS_DIR))

    def train(self, on_round: OnRound) -> None:
        lesson, settings, recorder = self.lesson, self.settings, self.lesson.recorder

        def tell(number: int, towers: Towers) -> None:
            step = number * settings.round_steps
            encoder = TowersNow(towers, self.base, f"step-{step}", self.base.max_tokens)
            on_round(step, lambda court: court.score(encoder, on_progress=recorder.go_on))

        texts = training_texts(lesson.collected.documents, self.base)
        train_in_rounds(
            lesson.base,
            self._find_queries(),
            lesson.collected.documents,
            settings,
            lesson.folder,
            texts=texts,
            teacher=find_teacher(is_needed=PSEUDO in dict(lesson.run.sources)),
            analyzer=get_analyzer(),
            embed_first=lambda product_ids, tell: embed_with(self.base, texts, product_ids, tell),
            on_step=lambda step: recorder.add_step(step.number, step.total, step.loss),
            on_phase=recorder.tell_phase,
            on_part=recorder.tell_part,
            on_round=tell,
            is_cancelled=recorder.is_cancelled,
        )

    def _find_queries(self) -> list[LabelledQuery]:
        """Return the queries; of those that people rated, what else may answer them is left open."""
        queries, documents = self.lesson.collected.queries, self.lesson.collected.documents
        spared = spare_kin(queries, documents)
        return [one if is_rated(query.source) else query for query, one in zip(queries, spared, strict=True)]

    def score(self, court: Court, exported: Path | None) -> Mapping[str, Floats]:
        encoder = load_encoder(exported) if exported else get_encoder()
        return court.score(encoder, on_progress=self.lesson.recorder.go_on)

    def describe(self) -> dict[str, Any]:
        return {"towers": self.settings.towers, "dim": self.base.dim}


def embed_with(
    base: TwoTowerEncoder, texts: Mapping[int, str], product_ids: Sequence[int], on_progress: Callable[[int], None]
) -> Vectors:
    """Return the exported model's vectors of products; the shop's own are read where they are stored."""
    own = [product_id for product_id in product_ids if product_id > 0]
    others = [product_id for product_id in product_ids if product_id < 0]
    vectors = np.concatenate(
        [
            embed_texts([texts[product_id] for product_id in own], base, on_progress),
            base.encode_products([texts[product_id] for product_id in others], count_from(on_progress, len(own))),
        ]
    )
    places = {product_id: place for place, product_id in enumerate(own + others)}
    found: Vectors = vectors[[places[product_id] for product_id in product_ids]]
    return found


# --- the cross-encoder --------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossEncoderLearner:
    lesson: Lesson

    @cached_property
    def settings(self) -> CrossEncoderSettings:
        names = ("steps", "lists", "list_size", "learning_rate", "loss", "lora_rank", "max_tokens", "seed", "compile")
        return CrossEncoderSettings(**self.lesson.pick(names), layers=tuple(self.lesson.settings.get("layers", ())))

    @property
    def reading(self) -> tuple[int, float]:
        """How many products the model is to read, and its share of their score."""
        settings = self.lesson.settings
        return settings.get("rerank_depth", RERANK_DEPTH), settings.get("rerank_blend", RERANK_BLEND)

    def train(self, on_round: OnRound) -> None:
        lesson, recorder = self.lesson, self.lesson.recorder
        others = list(self._find_others())  # known to be wrong before anything is learned
        recorder.tell_phase("finding candidates")
        candidates = self._keep("candidates", self._find_candidates)
        recorder.tell_phase("making lists")
        lists = build_lists(lesson.collected.queries, lesson.collected.documents, candidates, self.settings)
        if name := lesson.settings.get("teacher"):
            recorder.tell_phase("asking the teacher")
            lists = self._keep_answers(name, lists)
        recorder.tell_phase("learning")
        pairs = make_sample_pairs()
        learned = cross_encoder.train(
            lesson.base,
            lists,
            self.settings,
            lesson.folder / "alone" if others else lesson.folder,
            on_step=lambda step: recorder.add_step(step.number, step.total, step.loss),
            on_reading=lambda step, reader: on_round(step, lambda court: self._score(court, reader.measured(pairs))),
            is_cancelled=recorder.is_cancelled,
        )
        if others and not (lesson.folder / "adapter").is_dir():
            average_adapters([learned, *others], lesson.folder / "adapter")

    def _find_others(self) -> Iterator[Path]:
        """Yield the adapters that what is learned is to be averaged with."""
        for name in split_names(self.lesson.settings.get("average", "")):
            folder = find_tower(fetch(resolve_model(registry.resolve(name))))
            check_averageable(folder, self.lesson.base)
            yield folder

    def _keep_answers(self, name: str, lists: Sequence[GradedList]) -> list[GradedList]:
        """Return the lists with the teacher's scores for targets."""
        answers = self._keep("answers", lambda: list(self._ask(name, lists)))
        return [replace(one, targets=tuple(targets)) for one, targets in zip(lists, answers, strict=True)]

    def _keep(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what was made at the first try: at a later one another model may be live, or a last digit differ."""
        path = self.lesson.folder / f"{name}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(make()))
        return json.loads(path.read_text(encoding="utf-8"))

    def _find_candidates(self) -> dict[str, list[int]]:
        """Return what the hybrid search finds for each query among the products of its shop."""
        queries, encoder = self.lesson.collected.queries, get_encoder()
        found: dict[str, list[int]] = {}
        for shop in make_shops(self.lesson.collected.documents, queries, self.settings.seed):
            texts = [query.text for query in queries if next(iter(query.grades)) in shop.documents]
            search = shop.search(encoder, make_config(), self.lesson.recorder.go_on)
            rankings = search.search(texts, CANDIDATES)
            found |= {text: ranking.product_ids.tolist() for text, ranking in zip(texts, rankings, strict=True)}
        return found

    def _ask(self, name: str, lists: Sequence[GradedList]) -> Iterable[list[float]]:
        """Yield the teacher's scores of each list."""
        teacher = load_reranker(export_reader(registry.resolve(name), live.MODELS_DIR))
        for done, one in enumerate(lists):
            self.lesson.recorder.go_on(done, len(lists))
            yield teacher.score(one.query, [("", text) for text in one.texts]).tolist()

    def score(self, court: Court, exported: Path | None) -> Mapping[str, Floats]:
        if exported:
            return self._score(court, load_reranker(exported))
        champion = find_live(CROSS_ENCODER)
        reading = Reading(get_reranker(), champion.rerank_depth, champion.rerank_blend)
        return court.score(get_encoder(), reading, self.lesson.recorder.go_on)

    def _score(self, court: Court, reader: Reranker) -> Mapping[str, Floats]:
        return court.score(get_encoder(), Reading(reader, *self.reading), self.lesson.recorder.go_on)

    def describe(self) -> dict[str, Any]:
        depth, blend = self.reading
        return {
            "dim": 1,
            "layers": self.settings.layers,
            "max_tokens": self.settings.max_tokens,
            "rerank_depth": depth,
            "rerank_blend": blend,
        }
