"""How relevant shoppers' clicks say that products are: what every estimator returns, and the interval they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from experiments.clicks.log import Cells, Floats, Ints

TAIL = 0.025  # on each side of a 95 % interval


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """One estimate for each (query, product), arrays of shape (pairs,), ascending by query and product.

    `low` and `high` bound a 95 % interval; an estimate is nan where nothing could be learned. `examined` is how many of
    the `impressions` shoppers are thought to have looked at: what an estimate's weight is judged by.
    """

    query: Ints
    product: Ints
    estimate: Floats
    low: Floats
    high: Floats
    impressions: Floats
    clicks: Floats
    examined: Floats


def describe_pairs(cells: Cells, estimate: Floats, interval: tuple[Floats, Floats], examination: Floats) -> Relevance:
    """Return the estimates with their counts; `examination` is of each cell, 0 to 1."""
    counts = (cells.per_pair(values) for values in (cells.impressions, cells.clicks, cells.impressions * examination))
    return Relevance(cells.query, cells.product, estimate, *interval, *counts)


def divide_clicks(cells: Cells, weights: Floats, divisor: Floats, examination: Floats) -> Relevance:
    """Return sum(weight * clicks) / divisor of each pair with its gamma interval.

    `weights` and `examination` are of each cell, `divisor` of each pair: where 0, the estimate is nan and its interval
    0 to infinity.
    """
    sums = cells.per_pair(weights * cells.clicks), cells.per_pair(weights**2 * cells.clicks)
    largest = np.zeros(len(divisor))
    np.maximum.at(largest, cells.pair, weights)
    ends = (
        _divide(end, divisor, nothing) for end, nothing in zip(bound_sums(*sums, largest), (0.0, np.inf), strict=True)
    )
    return describe_pairs(cells, _divide(sums[0], divisor, np.nan), (next(ends), next(ends)), examination)


def _divide(values: Floats, divisor: Floats, nothing: float) -> Floats:
    quotients = np.full(len(divisor), nothing)
    np.divide(values, divisor, out=quotients, where=divisor > 0)
    return quotients


def bound_sums(total: Floats, variance: Floats, largest: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % gamma interval for sums of weighted Poisson counts.

    `total` is sum(weight * count), `variance` sum(weight^2 * count), `largest` the largest weight of each sum, above 0:
    without counts the interval is still 0 to what one count could hide. Fay and Feuer 1997, "Confidence intervals for
    directly standardized rates"; with equal weights the exact Poisson interval of Garwood 1936. Clicks are Bernoulli,
    so spread less than Poisson: the interval is at least wide enough.
    """
    low, some = np.zeros(len(total)), total > 0
    low[some] = _gamma_quantile(total[some], variance[some], TAIL)
    return low, _gamma_quantile(total + largest, variance + largest**2, 1 - TAIL)


def _gamma_quantile(mean: Floats, variance: Floats, probability: float) -> Floats:
    """Return the quantile of the gamma distribution with this mean and variance."""
    quantile: Floats = variance / mean * gammaincinv(mean**2 / variance, probability)
    return quantile
