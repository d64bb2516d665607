"""What is each part of the learning worth? Models trained without it, side by side, on the sample shop's truth."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.lab import SEED, Lab, start_django
from bench.report import Claim, make_parts_option, run, with_ends

TOWERS: dict[str, Any] = {"rounds": 2, "batch_size": 128, "max_tokens": 48}
WHOLE = "the whole recipe"
TWO_TOWERS: dict[str, dict[str, Any]] = {
    WHOLE: {},
    "negatives by chance instead of hard ones": {"mining": {"count": 0}},
    "mined once instead of in each round": {"rounds": 1},
    "batches of 16": {"batch_size": 16},
    "batches of 1024": {"batch_size": 1024},
    "taught by the default reranker": {"is_taught": True},
    "no Matryoshka": {"dims": ()},
    "untied towers": {"towers": "untied"},
    "all weights instead of LoRA": {"lora_rank": 0},
}
READER: dict[str, Any] = {"max_tokens": 64}
STUDENT = (0, 2, 4)
TEACHER, TAUGHT = "6 layers", "3 layers taught by the 6"
READERS: dict[str, dict[str, Any]] = {
    TEACHER: {},
    "6 layers with the pointwise loss": {"loss": "pointwise"},
    "6 layers with the listwise loss": {"loss": "listwise"},
    "3 layers": {"layers": STUDENT},
    TAUGHT: {"layers": STUDENT, "loss": "distilled"},
}
DEPTH, BLEND = 20, 0.6  # the same for all variants
CALIBRATION = 200
DOUBTED = 300  # queries of which one answer is known and the others are looked for among the negatives


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    with tempfile.TemporaryDirectory(prefix="ablations-") as folder:
        start_django(Path(folder))
        lab = Lab(Path(folder), arguments.products, arguments.queries, arguments.rows, arguments.steps)
        yield Claim("products", arguments.products)
        yield Claim("queries learned from", len(lab.split.train))
        yield Claim("queries measured on", len(lab.asked))
        for part in arguments.parts:
            yield from PARTS[part](lab)


# --- hard negatives -----------------------------------------------------------------------------------


def measure_negatives(lab: Lab) -> Iterator[Claim]:
    """Yield the share of mined negatives that truth calls exact, where one answer of each query is known."""
    from retrieval.learning.calibration import calibrate
    from retrieval.learning.negatives import MiningSettings, measure_false_negatives, mine

    asked = [query for query in lab.split.train if len(query.positives) > 1][:DOUBTED]
    known = [replace(query, grades={query.positives[0]: 3.0}) for query in asked]
    truth = {query.text: query.grades for query in asked}
    corpus = lab.corpus.with_vectors(lab.embed(lab.base))
    teacher = calibrate(lab.teacher, known, lab.shop.documents, seed=SEED)
    for name, doubts in (("", None), (" and doubted by the default reranker", teacher)):
        mined = mine(known, corpus, lab.base, doubts, MiningSettings())
        yield Claim(f"negatives mined{name}: false ones", 100 * measure_false_negatives(mined, truth), "%")
        yield Claim(f"negatives mined{name}: of a query", float(np.mean([len(found) for found in mined.values()])))


# --- the reranker that comes with the project ---------------------------------------------------------


def measure_default(lab: Lab) -> Iterator[Claim]:
    """Yield what the default reranker makes of the hybrid search, as its card says, on queries kept out of it."""
    from retrieval.learning.sources import BUILT_IN
    from retrieval.learning.versions import read_card

    card = read_card(BUILT_IN / "default-reranker")
    rankings = lab.search(lab.base, "hybrid", [query.text for query in lab.asked], 40)
    scores = {"not read again": score_reader(lab, rankings, None)}
    scores["default reranker"] = score_reader(
        lab, rankings, lab.teacher, card.rerank_depth or DEPTH, card.rerank_blend or BLEND
    )
    yield from compare("cross-encoder", scores, "not read again")


# --- two towers ---------------------------------------------------------------------------------------


def measure_towers(lab: Lab) -> Iterator[Claim]:
    """Yield dense nDCG@10 of each variant and its difference from the whole recipe."""
    scores: dict[str, Any] = {"not trained": score_towers(lab, lab.base)}
    for name, changes in TWO_TOWERS.items():
        scores[name] = score_towers(lab, train_towers(lab, name, changes))
    yield from compare("towers", scores, WHOLE)


def train_towers(lab: Lab, name: str, changes: Mapping[str, Any]) -> Any:
    from retrieval.learning.negatives import MiningSettings
    from retrieval.learning.rounds import train_in_rounds
    from retrieval.learning.two_tower import TwoTowerSettings

    options = TOWERS | {key: value for key, value in changes.items() if key not in ("mining", "is_taught")}
    options["rows"] = lab.rows // options["rounds"]
    folder = lab.folder / name.replace(" ", "-")
    train_in_rounds(
        "default",
        lab.split.train,
        lab.shop.documents,
        TwoTowerSettings(**options, seed=SEED),
        folder,
        texts=lab.texts,
        mining=MiningSettings(**{"pool": 5000} | changes.get("mining", {})),
        analyzer=lab.analyzer,
        teacher=lab.teacher if changes.get("is_taught") else None,
        embed_first=lambda product_ids, tick: lab.base.encode_products([lab.texts[one] for one in product_ids]),
    )
    return lab.load(str(folder))


def score_towers(lab: Lab, encoder: Any) -> Any:
    from retrieval.evaluation.metrics import ndcg

    found = lab.search(encoder, "dense", [query.text for query in lab.asked], 10)
    return np.array([ndcg(one.product_ids.tolist(), q.grades) for q, one in zip(lab.asked, found, strict=True)])


# --- the cross-encoder --------------------------------------------------------------------------------


def measure_readers(lab: Lab) -> Iterator[Claim]:
    """Yield nDCG@10 of the hybrid search, read again by each variant, in float and in int8.

    The student reads as many products as take as long as the teacher's DEPTH too: which of them is to serve is a
    question of time.
    """
    rankings = lab.search(lab.base, "hybrid", [query.text for query in lab.asked], 100)
    scores: dict[str, Any] = {"not read again": score_reader(lab, rankings, None)}
    lists = make_lists(lab)
    teacher: Any = None
    taken: list[float] = []
    for name, changes in READERS.items():
        learned = ask(teacher, lists) if changes.get("loss") == "distilled" else lists
        adapter = train_reader(lab, name, learned, changes)
        reader = load_reader(lab, export_reader(lab, adapter))
        teacher = teacher or reader
        scores[name] = score_reader(lab, rankings, reader)
        if name in (TEACHER, TAUGHT):
            folder = export_reader(lab, adapter, make_pairs(lab, lists))
            scores[f"{name} in int8"] = score_reader(lab, rankings, load_reader(lab, folder))
            taken.append(read_pair_ms(folder))
            yield Claim(f"reading a pair with {name} in int8", taken[-1], "ms")
    depth = round(DEPTH * taken[0] / taken[1])
    scores[f"{TAUGHT} in int8 reading {depth} products in the same time"] = score_reader(
        lab, rankings, load_reader(lab, folder), depth
    )
    yield from compare("cross-encoder", scores, TEACHER)


def make_lists(lab: Lab) -> list[Any]:
    from retrieval.learning.cross_encoder import CrossEncoderSettings, build_lists

    train = lab.split.train
    found = lab.search(lab.base, "hybrid", [query.text for query in train], 40)
    candidates = {query.text: one.product_ids.tolist() for query, one in zip(train, found, strict=True)}
    settings = CrossEncoderSettings(**READER, steps=lab.steps, seed=SEED)
    lists: list[Any] = build_lists(train, lab.shop.documents, candidates, settings)
    return lists


def make_pairs(lab: Lab, lists: list[Any]) -> list[tuple[str, str]]:
    return [(one.query, text) for one in lists[:CALIBRATION] for text in one.texts[:2]][:CALIBRATION]


def ask(teacher: Any, lists: list[Any]) -> list[Any]:
    answers = [teacher.score(one.query, [("", text) for text in one.texts]).tolist() for one in lists]
    return [replace(one, targets=tuple(scores)) for one, scores in zip(lists, answers, strict=True)]


def train_reader(lab: Lab, name: str, lists: list[Any], changes: Mapping[str, Any]) -> Path:
    from retrieval.learning import cross_encoder

    settings = cross_encoder.CrossEncoderSettings(**READER, **changes, steps=lab.steps, seed=SEED)
    return cross_encoder.train("default", lists, settings, lab.folder / name.replace(" ", "-"))


def export_reader(lab: Lab, adapter: Path, quantize_with: list[tuple[str, str]] | None = None) -> Path:
    from retrieval.readers import export_reader

    return export_reader(str(adapter), lab.folder / "models", quantize_with=quantize_with or ())


def load_reader(lab: Lab, folder: Path) -> Any:
    from retrieval.lessons import load_reranker

    return load_reranker(folder)


def read_pair_ms(folder: Path) -> float:
    from retrieval.engine.exported import ModelCard

    return ModelCard.read(folder).pair_ms


def score_reader(lab: Lab, rankings: list[Any], reader: Any, depth: int = DEPTH, blend: float = BLEND) -> Any:
    from retrieval.evaluation.metrics import ndcg
    from retrieval.reading import Reading, read_again

    reading = Reading(reader, depth, blend)
    return np.array([
        ndcg(read_again(query.text, one, lab.corpus, reading).tolist(), query.grades)
        for query, one in zip(lab.asked, rankings, strict=True)
    ])  # fmt: skip


# --- the table ----------------------------------------------------------------------------------------


def compare(kind: str, scores: Mapping[str, Any], whole: str) -> Iterator[Claim]:
    """Yield the mean of each variant, and its paired difference from the one named `whole` with the interval's ends."""
    from retrieval.evaluation.compare import estimate_means

    for name, found in scores.items():
        yield Claim(f"{kind}: {name}, nDCG@10", float(found.mean()))
        if name != whole:
            (interval,) = estimate_means((found - scores[whole])[:, None])
            yield from with_ends(f"{kind}: {name}, difference from {whole}", interval)


PARTS: dict[str, Callable[[Lab], Iterator[Claim]]] = {
    "negatives": measure_negatives,
    "default": measure_default,
    "towers": measure_towers,
    "readers": measure_readers,
}

if __name__ == "__main__":
    run(
        __doc__,
        measure,
        products={"type": int, "default": 5000, "help": "products of the sample shop (default: 5000)"},
        queries={"type": int, "default": 4000, "help": "queries of the sample shop (default: 4000)"},
        rows={"type": int, "default": 5120, "help": "pairs that two towers learn from (default: 5120)"},
        steps={"type": int, "default": 150, "help": "batches that a cross-encoder learns from (default: 150)"},
        parts=make_parts_option(PARTS),
    )
