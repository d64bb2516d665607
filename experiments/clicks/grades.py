"""Judgements from estimated relevance: whole grades, relative to the best product of the same query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.clicks.log import Floats, Ints
from experiments.clicks.relevance import Relevance

THRESHOLDS = (0.2, 0.5, 0.8)  # of the best product's estimate, for grades 1, 2 and 3
FLOOR = 0.5  # of the median query's best: where nothing that is shown answers, the least bad is no answer
MINIMUM_EXAMINED = 20.0
MINIMUM_CLICKS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Grades:
    """Grades from 0 by query and product, arrays of the same shape; `relative` is what each was cut from, 0 to 1.

    `best` is the estimate that each is a share of. `left_out` counts the pairs that got none.
    """

    query: Ints
    product: Ints
    grade: Ints
    relative: Floats
    best: Floats
    left_out: int


def grade_by_best(
    relevance: Relevance,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    floor: float = FLOOR,
    minimum_examined: float = MINIMUM_EXAMINED,
    minimum_clicks: int = MINIMUM_CLICKS,
) -> Grades:
    """Return as grade how many of the thresholds a product's estimate reaches, as a share of its query's best.

    Relative, because some queries are clicked less whatever they show; but the best counts as no lower than `floor` of
    the median query's, because others show nothing that answers. Products examined fewer than `minimum_examined`
    times get no grade, not 0: that nobody looked says nothing of them, and a model taught that what the present
    ranking hides is wrong would go on hiding it. Queries with fewer than `minimum_clicks` clicks on the rest, or
    whose best estimate is 0, are left out: their best is chance. Raises ValueError for thresholds that do not ascend
    within 0 to 1.
    """
    cuts = _check_thresholds(thresholds)
    kept = _find_enough(relevance, minimum_examined, minimum_clicks)
    query, estimate = relevance.query[kept], relevance.estimate[kept]
    groups, group = np.unique(query, return_inverse=True)
    best = np.zeros(len(groups))
    np.maximum.at(best, group, estimate)
    if len(best):
        best = np.maximum(best, floor * np.median(best))
    relative = estimate / best[group]
    grade = np.searchsorted(cuts, relative, side="right").astype(np.int64)
    return Grades(query, relevance.product[kept], grade, relative, best[group], int((~kept).sum()))


def _find_enough(relevance: Relevance, minimum_examined: float, minimum_clicks: int) -> npt.NDArray[np.bool_]:
    """Return which pairs are known well enough, in queries that are."""
    enough = (relevance.examined >= minimum_examined) & np.isfinite(relevance.estimate)
    _, group = np.unique(relevance.query, return_inverse=True)
    clicks = np.bincount(group, relevance.clicks * enough)
    best = np.bincount(group, np.where(enough, relevance.estimate, 0))  # estimates are 0 or more: 0 if all are
    kept: npt.NDArray[np.bool_] = enough & ((clicks >= minimum_clicks) & (best > 0))[group]
    return kept


def _check_thresholds(thresholds: Sequence[float]) -> Floats:
    values = np.asarray(thresholds, np.float64)
    if not len(values) or (np.diff(values) <= 0).any() or not ((values > 0) & (values <= 1)).all():
        raise ValueError(f"thresholds {tuple(thresholds)}, expected at least one, ascending, above 0 and at most 1")
    return values
