"""How good rankings are, query by query, by ir_measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ir_measures
import numpy as np
import numpy.typing as npt
from ir_measures import AP, RR, Judged, R, nDCG

from retrieval.evaluation.judgements import JudgementSet

Floats = npt.NDArray[np.float64]

NDCG = "nDCG@10"
CONDENSED = "condensed nDCG@10"
JUDGED = "Judged@10"
DEEPEST_CUTOFF = 100
# Below this share of rated products in the top 10, unrated ones decide the plain figure.
JUDGED_ENOUGH = 0.95


@dataclass(frozen=True, slots=True)
class Scores:
    """One ranking's values, 0 to 1, by metric name; entry i of each array is of query_ids[i]."""

    query_ids: tuple[str, ...]
    values: Mapping[str, Floats]

    def mean(self, metric: str) -> float:
        return float(self.values[metric].mean())


def build_measures(relevant_from: int) -> dict[str, Any]:
    """Return the measures by name; products graded `relevant_from` or higher are relevant."""
    return {
        NDCG: nDCG @ 10,  # as trec_eval: linear gains, unrated products gain nothing
        CONDENSED: nDCG(judged_only=True) @ 10,  # unrated products left out before ranking
        JUDGED: Judged @ 10,
        f"R(rel={relevant_from})@{DEEPEST_CUTOFF}": R(rel=relevant_from) @ DEEPEST_CUTOFF,
        f"RR(rel={relevant_from})@10": RR(rel=relevant_from) @ 10,
    }


def build_report_measures(relevant_from: int) -> dict[str, Any]:
    """Return the measures of a report that says once which products are relevant: those graded so or higher."""
    return {
        NDCG: nDCG @ 10,
        CONDENSED: nDCG(judged_only=True) @ 10,
        "recall@10": R(rel=relevant_from) @ 10,
        f"recall@{DEEPEST_CUTOFF}": R(rel=relevant_from) @ DEEPEST_CUTOFF,
        "MRR@10": RR(rel=relevant_from) @ 10,
        f"MAP@{DEEPEST_CUTOFF}": AP(rel=relevant_from) @ DEEPEST_CUTOFF,
        JUDGED: Judged @ 10,
    }


def score_rankings(
    rankings: Mapping[str, Sequence[str]],
    judgements: JudgementSet,
    relevant_from: int,
    build: Callable[[int], dict[str, Any]] = build_measures,
) -> Scores:
    """Return the value of every metric that `build` gives for every judged query.

    `rankings` holds SKUs, best first, by query id. A query that is missing or found nothing scores 0.
    Ideal rankings are made of all rated products, whether they can be found or not.
    """
    measures = build(relevant_from)
    names = {measure: name for name, measure in measures.items()}
    query_ids = tuple(judgements.grades)
    row_of = {query_id: row for row, query_id in enumerate(query_ids)}
    values = {name: np.zeros(len(query_ids)) for name in measures}
    grades = {query_id: dict(graded) for query_id, graded in judgements.grades.items()}
    evaluator = ir_measures.evaluator(list(measures.values()), grades)
    for result in evaluator.iter_calc(_to_run(rankings, row_of)):
        values[names[result.measure]][row_of[result.query_id]] = result.value
    return Scores(query_ids, values)


def _to_run(rankings: Mapping[str, Sequence[str]], known: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return rankings with scores that fall from rank to rank: measures sort by score, and break ties their own way.

    Empty ones are left out: the measure of judged products would divide by their length.
    """
    return {
        query_id: {sku: float(len(skus) - rank) for rank, sku in enumerate(skus)}
        for query_id, skus in rankings.items()
        if skus and query_id in known
    }


def ndcg(found: Sequence[int], grades: Mapping[int, float], *, is_condensed: bool = False) -> float:
    """Return nDCG@10 of products by id, as `build_measures` has it, for grades that may be fractions.

    Condensed leaves out products without a grade (Sakai 2007).
    """
    seen = [product_id for product_id in found if product_id in grades] if is_condensed else list(found)
    gains = np.array([max(grades.get(product_id, 0.0), 0.0) for product_id in seen[:10]])
    ideal = np.array(sorted((max(grade, 0.0) for grade in grades.values()), reverse=True)[:10])
    best = float((ideal / np.log2(np.arange(len(ideal)) + 2)).sum())
    return float((gains / np.log2(np.arange(len(gains)) + 2)).sum()) / best if best else 0.0
