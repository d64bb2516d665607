"""Many metrics and variants looked at together: p-values that allow for the number of looks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from experiments.stats.effects import ALPHA, check_alpha
from experiments.stats.sums import Floats


def find_bonferroni_alpha(count: int, *, alpha: float = ALPHA) -> float:
    """Return the level for each of `count` intervals such that all cover together with probability 1 − alpha.

    Bonferroni 1936, Dunn 1961; holds however the metrics depend on each other.
    """
    check_alpha(alpha)
    if count < 1:
        raise ValueError(f"count={count}: expected at least one interval")
    return alpha / count


def adjust_benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Return adjusted p-values: of those below alpha, a share of alpha at most is false, on average.

    Benjamini and Hochberg 1995; for metrics that are independent or depend on each other positively (Benjamini and
    Yekutieli 2001).
    """
    p = _check(p_values)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted


def _check(p_values: npt.ArrayLike) -> Floats:
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p-values {p}: expected one row of numbers 0 to 1; leave out what is not yet measurable")
    return p
