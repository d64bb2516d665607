"""Visitors who would drown all others: rules fixed before the look, and the same for every arm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from experiments.stats.sums import Floats, check_columns

CAP_PERCENTILE = 99.0
DEVIATIONS = 7.0
MOST_CLICKS, MANY_CLICKS = 5, 20  # of a search on average, where there are more than so many in all


def find_cap(arms: Sequence[npt.ArrayLike], *, percentile: float = CAP_PERCENTILE) -> float:
    """Return that percentile of the values above 0 of all arms together, to winsorise each with; inf without any.

    Most visitors spend nothing: a percentile over all of them would be 0. One cap for all arms, or the arms' tails
    would be cut differently. Linear between values. Raises ValueError for a negative value.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile={percentile}: expected above 0 and at most 100, such as {CAP_PERCENTILE:g}")
    values = _merge(arms)
    if (values < 0).any():
        raise ValueError(f"value {values.min():g}: expected 0 or more; count refunds as a metric of their own")
    spent = values[values > 0]
    return float(np.percentile(spent, percentile)) if len(spent) else math.inf


def winsorise(values: npt.ArrayLike, cap: float) -> Floats:
    """Return the values with those above `cap` lowered to it; Tukey 1962. Raises ValueError for a cap not above 0."""
    if not cap > 0:
        raise ValueError(f"cap={cap}: expected a number above 0")
    [column] = check_columns(values=values)
    return np.minimum(column, cap)


def find_search_limit(arms: Sequence[npt.ArrayLike], *, deviations: float = DEVIATIONS) -> float:
    """Return mean + 7 standard deviations of searches per visitor over all arms; inf without visitors.

    Leave out visitors above it: no shopper searches so often. At most 50 visitors have none, by arithmetic.
    """
    searches = _merge(arms)
    return float(searches.mean() + deviations * searches.std()) if len(searches) else math.inf


def find_greedy(searches: npt.ArrayLike, clicks: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which visitors click so many results of each search that they choose none: programs, shape (visitors,)."""
    columns = check_columns(searches=searches, clicks=clicks)
    greedy: npt.NDArray[np.bool_] = (columns[1] > MANY_CLICKS) & (columns[1] > MOST_CLICKS * columns[0])
    return greedy


def _merge(arms: Sequence[npt.ArrayLike]) -> Floats:
    columns = [check_columns(values=values)[0] for values in arms]
    return np.concatenate(columns) if columns else np.empty(0)
