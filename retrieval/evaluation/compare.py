"""Means with confidence intervals, and which of two rankings is better, over the same queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from retrieval.evaluation.metrics import JUDGED, Floats, Scores

RESAMPLES = 10_000
SEED = 1  # the same intervals every time
TIE = 1e-9  # differences no larger than this are rounding
CELLS_AT_ONCE = 1_000_000  # of resamples times queries: 32 MB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better `config` is than `baseline` by one metric, query by query."""

    config: str
    baseline: str
    metric: str
    estimate: Estimate
    wins: int
    losses: int
    ties: int
    detectable: float | None  # the smallest true difference so many queries would show; None for one query


def estimate_means(values: Floats, *, resamples: int = RESAMPLES, seed: int = SEED) -> list[Estimate]:
    """Return the mean of each column with its percentile bootstrap interval; `values` is (queries, columns).

    Queries are drawn anew with replacement, the same draws for all columns. Efron and Tibshirani 1993, ch. 13.
    Raises ValueError without queries.
    """
    if not len(values):
        raise ValueError("no queries to average over, expected at least one")
    means = _resample_means(values, resamples, np.random.default_rng(seed))
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return [
        Estimate(float(mean), float(low), float(high))
        for mean, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
    ]


def _resample_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Return the column means of so many resamples, shape (resamples, columns)."""
    count = len(values)
    step = max(CELLS_AT_ONCE // count, 1)
    blocks = [
        _draw_counts(count, min(step, resamples - done), rng) @ values / count for done in range(0, resamples, step)
    ]
    return np.concatenate(blocks)


def _draw_counts(count: int, rows: int, rng: np.random.Generator) -> Floats:
    """Return how often each of `count` queries was drawn in each of `rows` resamples, shape (rows, count)."""
    drawn = rng.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def estimate_scores(scores: Scores) -> dict[str, Estimate]:
    """Return the estimate of every metric."""
    estimates = estimate_means(np.column_stack(list(scores.values.values())))
    return dict(zip(scores.values, estimates, strict=True))


def compare_pairs(scores: Mapping[str, Scores]) -> list[Difference]:
    """Return the differences of every two configs by every metric: the later named minus the earlier.

    Raises ValueError if they were not measured over the same queries.
    """
    return [
        difference
        for baseline, config in combinations(scores, 2)
        for difference in compare(config, scores[config], baseline, scores[baseline])
    ]


def compare(config: str, scores: Scores, baseline: str, others: Scores) -> list[Difference]:
    """Return how much better `scores` are than `others` by every metric of quality (not by how much is rated)."""
    if scores.query_ids != others.query_ids:
        raise ValueError(f"{config} and {baseline} were measured over different queries: measure both over the same")
    metrics = [metric for metric in scores.values if metric != JUDGED]
    differences = np.column_stack([scores.values[metric] - others.values[metric] for metric in metrics])
    return [
        _describe(config, baseline, metric, estimate, differences[:, column])
        for column, (metric, estimate) in enumerate(zip(metrics, estimate_means(differences), strict=True))
    ]


def _describe(config: str, baseline: str, metric: str, estimate: Estimate, differences: Floats) -> Difference:
    wins, losses = int((differences > TIE).sum()), int((differences < -TIE).sum())
    ties = len(differences) - wins - losses
    return Difference(config, baseline, metric, estimate, wins, losses, ties, find_detectable(differences))


def find_detectable(differences: Sequence[float] | Floats) -> float | None:
    """Return the smallest mean difference that a paired t test at 5 % finds with 80 % power; None for one query.

    (1.96 + 0.84) standard errors, the normal approximation of Cohen 1988, ch. 2.
    """
    count = len(differences)
    return (1.96 + 0.84) * float(np.std(differences, ddof=1)) / math.sqrt(count) if count > 1 else None
