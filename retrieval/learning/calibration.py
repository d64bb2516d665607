"""A teacher's scores made log-odds, so that a margin means the same whichever cross-encoder teaches.

How far apart a cross-encoder puts right and wrong depends on how it was trained: the mean of two models, say, spans a
quarter of what either does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from retrieval.engine.text import reader_input
from retrieval.engine.types import Document, Scores
from retrieval.learning.examples import JudgedPair, LabelledQuery
from retrieval.learning.negatives import Teacher, find_wrong

Drawn = TypeVar("Drawn")
QUERIES = 150
RIGHT, WRONG, BY_CHANCE = 2, 2, 1  # products read of each query
LEAST_SPREAD = 0.1  # deviation of the log-odds below which right and wrong look the same to the teacher


@dataclass(frozen=True)
class CalibratedTeacher:
    """A teacher whose scores are the log-odds that a product is right."""

    teacher: Teacher
    slope: float
    offset: float

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        scores: Scores = (self.slope * self.teacher.score(query, documents) + self.offset).astype(np.float32)
        return scores


def measure_span(reader: Teacher, pairs: Sequence[JudgedPair]) -> float:
    """Return how far the mean score of right pairs lies above that of wrong ones, 0 where it does not."""
    scores = np.array([reader.score(pair.query, [("", pair.text)])[0] for pair in pairs], np.float64)
    is_right = np.array([pair.is_right for pair in pairs], bool)
    if is_right.all() or not is_right.any():
        return 0.0
    return max(float(scores[is_right].mean() - scores[~is_right].mean()), 0.0)


def calibrate(
    teacher: Teacher,
    queries: Sequence[LabelledQuery],
    documents: Mapping[int, Document],
    *,
    seed: int,
    on_query: Callable[[int, int], None] = lambda done, total: None,
) -> CalibratedTeacher | None:
    """Return the teacher calibrated on what is known to be right and wrong; None where it cannot tell them apart.

    `on_query` is told how many queries were read, and how many will be.
    """
    rng = random.Random(f"calibrate-{seed}")
    known = [query for query in queries if any(product_id in documents for product_id in query.positives)]
    shops = {is_sample: [one for one in documents if (one < 0) == is_sample] for is_sample in (False, True)}
    read = []
    drawn = _draw(known, QUERIES, rng)
    for done, query in enumerate(drawn):
        on_query(done, len(drawn))
        # Whether a product of another shop would answer the query is not known.
        read.append(_read(teacher, query, documents, shops[query.positives[0] < 0], rng))
    if not read:
        return None
    scores, is_right = (np.concatenate(parts) for parts in zip(*read, strict=True))
    slope, offset = fit_log_odds(scores, is_right)
    return CalibratedTeacher(teacher, slope, offset) if slope * scores.std() > LEAST_SPREAD else None


def fit_log_odds(scores: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the slope and offset that make scores log-odds of being right: Platt 1999. Both 0 for a constant.

    Targets lie a little inside 0 and 1, as Platt has them, so that scores which part all pairs stay finite.
    """
    right, wrong = int(is_right.sum()), int((~is_right).sum())
    targets = np.where(is_right, (right + 1) / (right + 2), 1 / (wrong + 2))
    if not (spread := float(scores.std())):
        return 0.0, 0.0
    scaled = (scores - scores.mean()) / spread

    def loss(weights: npt.NDArray[np.float64]) -> float:
        logits = weights[0] * scaled + weights[1]
        return float(np.mean(np.logaddexp(0.0, logits) - targets * logits))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope / spread), float(offset - slope * scores.mean() / spread)


def _read(
    teacher: Teacher,
    query: LabelledQuery,
    documents: Mapping[int, Document],
    shop: Sequence[int],
    rng: random.Random,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the teacher's scores of some products of a query, and which of them are right."""
    right = _draw([one for one in query.positives if one in documents], RIGHT, rng)
    wrong = _draw([one for one in find_wrong(query) if one in documents], WRONG, rng)
    chosen = right + wrong + [one for one in _draw(shop, BY_CHANCE, rng) if one not in query.grades]
    texts = [reader_input(documents[one]) for one in chosen]
    return teacher.score(query.text, texts).astype(np.float64), np.arange(len(chosen)) < len(right)


def _draw(everything: Sequence[Drawn], most: int, rng: random.Random) -> list[Drawn]:
    return rng.sample(everything, min(len(everything), most))
