"""CUPED: the part of an effect's noise that visitors brought along from before the experiment is taken out.

Deng, Xu, Kohavi and Walker 2013, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
Pre-Experiment Data". The covariate must not know of the experiment: what visitors did before they were assigned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from experiments.stats.covariates import CupedMeanStatistic, CupedRatioStatistic
from experiments.stats.effects import Effect, measure_contrast, measure_lift, satterthwaite
from experiments.stats.sums import ROUNDING, Arm, NotMeasurable

AnyCuped = TypeVar("AnyCuped", CupedMeanStatistic, CupedRatioStatistic)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The slope `theta` on the covariate, from both arms' covariances, and the share of variance it takes out.

    `variance_cut` is the squared correlation of metric and covariate within arms: what remains of the metric's variance
    within arms is exactly 1 − variance_cut.
    """

    theta: float
    variance_cut: float


NO_ADJUSTMENT = Adjustment(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Pair:
    """An arm's metric and covariate, as values per visitor, and their covariance."""

    metric: Arm
    covariate: Arm
    covariance: float

    def spread(self, scale: float, slope: float) -> float:
        """Return the variance of the mean over visitors of scale · metric − slope · covariate."""
        own, shared = scale**2 * self.metric.variance, 2 * scale * slope * self.covariance
        return (own - shared + slope**2 * self.covariate.variance) / self.metric.n


def fit_adjustment(champion: AnyCuped, variant: AnyCuped) -> Adjustment:
    """Return the adjustment that both arms share: theta = Cov(Y, X) / Var(X) within arms, Deng et al. 2013.

    None (theta 0) where there is nothing to fit it on: visitors without past, metric or covariate the same for all of
    an arm, or one a multiple of the other.
    """
    pairs = _measure_pairs(champion, variant)
    return _fit(pairs) if pairs else NO_ADJUSTMENT


def _fit(pairs: Sequence[_Pair]) -> Adjustment:
    weights = [pair.metric.n - 1 for pair in pairs]
    shared = sum(weight * pair.covariance for weight, pair in zip(weights, pairs, strict=True))
    own = sum(weight * pair.metric.variance for weight, pair in zip(weights, pairs, strict=True))
    before = sum(weight * pair.covariate.variance for weight, pair in zip(weights, pairs, strict=True))
    cut = shared**2 / (own * before)
    return Adjustment(shared / before, cut) if cut < 1 - ROUNDING else NO_ADJUSTMENT


def _measure_pairs(champion: AnyCuped, variant: AnyCuped) -> tuple[_Pair, _Pair] | None:
    first, second = _measure_pair(champion), _measure_pair(variant)
    return (first, second) if first and second else None


def _measure_pair(statistic: CupedMeanStatistic | CupedRatioStatistic) -> _Pair | None:
    metric, covariate = statistic.metric.measure(), statistic.covariate.measure()
    if isinstance(metric, NotMeasurable) or isinstance(covariate, NotMeasurable):
        return None
    return _Pair(metric, covariate, statistic.covary()) if metric.variance and covariate.variance else None


def measure_adjusted_difference(champion: AnyCuped, variant: AnyCuped) -> Effect | NotMeasurable:
    """Return `measure_difference` less theta times the difference that the covariate had before; same mean, less noise.

    Without an adjustment (see `fit_adjustment`) it is `measure_difference` itself.
    """
    return measure_adjusted_contrast(champion, variant, scale=1.0)


def measure_adjusted_contrast(champion: AnyCuped, variant: AnyCuped, *, scale: float) -> Effect | NotMeasurable:
    """Return variant − scale · champion, both adjusted as `measure_adjusted_lift` does; without, `measure_contrast`."""
    pairs = _measure_pairs(champion, variant)
    theta = _fit(pairs).theta if pairs else 0.0
    if not pairs or not theta:
        return measure_contrast(champion.metric, variant.metric, scale=scale)
    before, after = pairs
    share = after.metric.n / (before.metric.n + after.metric.n)
    slope = theta * (1 - share + share * scale)
    estimate = (
        after.metric.value - scale * before.metric.value - slope * (after.covariate.value - before.covariate.value)
    )
    return _sum_up(estimate, before, before.spread(scale, slope), after, after.spread(1.0, slope))


def measure_adjusted_lift(champion: AnyCuped, variant: AnyCuped) -> Effect | NotMeasurable:
    """Return the lift of both arms' adjusted values, each less theta times how far its covariate is off that of all.

    Delta method: both adjusted values lean on both arms' covariates, the slope in the standard error is that of their
    quotient. Not measurable where an adjusted champion is not above 0; without an adjustment it is `measure_lift`.
    """
    pairs = _measure_pairs(champion, variant)
    theta = _fit(pairs).theta if pairs else 0.0
    if not pairs or not theta:
        return measure_lift(champion.metric, variant.metric)
    before, after = pairs
    share = after.metric.n / (before.metric.n + after.metric.n)
    shift = theta * (after.covariate.value - before.covariate.value)
    base, value = before.metric.value + share * shift, after.metric.value - (1 - share) * shift
    if base <= 0:
        return NotMeasurable(f"the champion's adjusted value is {base:g}, a lift needs one above 0")
    ratio = value / base
    slope = theta * (1 - share + share * ratio)
    return _sum_up(ratio - 1, before, before.spread(ratio, slope) / base**2, after, after.spread(1.0, slope) / base**2)


def _sum_up(estimate: float, before: _Pair, first: float, after: _Pair, second: float) -> Effect:
    """Return the effect whose squared standard error is the sum of what both arms add to it."""
    df = satterthwaite(first, before.metric.df, second, after.metric.df)
    return Effect(estimate, math.sqrt(first + second), before.metric.n, after.metric.n, df)
