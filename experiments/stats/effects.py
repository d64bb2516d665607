"""How much a variant differs from the champion, and the interval and p-value of a single look."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from scipy import special

from experiments.stats.sums import AnyStatistic, Arm, NotMeasurable

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Effect:
    """An estimate with its standard error, from `n_champion` and `n_variant` visitors.

    `df`: degrees of freedom of Student's t, infinite for the normal distribution.
    """

    estimate: float
    standard_error: float
    n_champion: int
    n_variant: int
    df: float = math.inf
    is_measurable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of level 1 − alpha, and the p-value of no effect: below alpha where 0 lies outside."""

    low: float
    high: float
    p_value: float
    alpha: float

    def covers(self, value: float) -> bool:
        return self.low <= value <= self.high


def measure_difference(champion: AnyStatistic, variant: AnyStatistic) -> Effect | NotMeasurable:
    """Return how much higher the variant's value is, in the metric's own unit.

    Means: Welch 1947, degrees of freedom after Satterthwaite 1946. Ratios: the delta method, Deng et al. 2018.
    """
    return measure_contrast(champion, variant, scale=1.0)


def measure_contrast(champion: AnyStatistic, variant: AnyStatistic, *, scale: float) -> Effect | NotMeasurable:
    """Return variant − scale · champion: with 0.95, how far the variant is above what a loss of 5 % would leave.

    Not a division by the champion's value: exact for means where a relative lift is an approximation.
    """
    arms = measure_arms(champion, variant)
    if isinstance(arms, NotMeasurable):
        return arms
    before, after = arms
    error = math.sqrt(after.variance / after.n + scale**2 * before.variance / before.n)
    return Effect(after.value - scale * before.value, error, before.n, after.n, _find_df(before, after))


def measure_lift(champion: AnyStatistic, variant: AnyStatistic) -> Effect | NotMeasurable:
    """Return variant / champion − 1: 0.05 is 5 % more. Delta method, Deng et al. 2018.

    Not measurable unless the champion's value is above 0. An approximation that needs the champion's value to lie many
    standard errors from 0: let decisions rest on `measure_difference`, or `measure_contrast` for a margin.
    """
    arms = measure_arms(champion, variant)
    if isinstance(arms, NotMeasurable):
        return arms
    before, after = arms
    if before.value <= 0:
        return NotMeasurable(f"the champion's value is {before.value:g}, a lift needs one above 0")
    ratio = after.value / before.value
    error = math.sqrt(after.variance / after.n + ratio**2 * before.variance / before.n) / before.value
    return Effect(ratio - 1, error, before.n, after.n, _find_df(before, after))


def measure_arms(champion: AnyStatistic, variant: AnyStatistic) -> tuple[Arm, Arm] | NotMeasurable:
    """Return both arms, measured. An arm whose visitors are all alike has the variance of both arms merged.

    No sale yet among few visitors is no proof that none will come: a variance of 0 would make it one. Merged is what
    the null hypothesis says: both arms are one population. (Of proportions: as the pooled z test.)
    """
    before, after = champion.measure(), variant.measure()
    if isinstance(before, NotMeasurable):
        return NotMeasurable(f"in the champion {before.reason}")
    if isinstance(after, NotMeasurable):
        return NotMeasurable(f"in the variant {after.reason}")
    if before.variance > 0 and after.variance > 0:
        return before, after
    merged = (champion + variant).measure()
    assert isinstance(merged, Arm)  # where both arms are
    if merged.variance == 0:
        return NotMeasurable(f"all {merged.n} visitors have the same value, {merged.value:g}")
    return _borrow_variance(before, merged), _borrow_variance(after, merged)


def _borrow_variance(arm: Arm, merged: Arm) -> Arm:
    return arm if arm.variance > 0 else replace(arm, variance=merged.variance)


def _find_df(before: Arm, after: Arm) -> float:
    """Return the degrees of freedom of the difference, also for a lift: their null hypothesis is the same."""
    return satterthwaite(before.variance / before.n, before.df, after.variance / after.n, after.df)


def satterthwaite(first: float, first_df: float, second: float, second_df: float) -> float:
    """Return the degrees of freedom of a difference whose arms add so much to its squared standard error."""
    if math.isinf(first_df) or math.isinf(second_df):
        return math.inf
    return (first + second) ** 2 / (first**2 / first_df + second**2 / second_df)


def find_fixed_interval(effect: Effect, *, alpha: float = ALPHA) -> Interval:
    """Return the two-sided interval for one look at a time fixed beforehand.

    Looking every day until it leaves 0 out finds an effect where there is none in a quarter of tests and more: see
    `find_always_valid_interval`.
    """
    check_alpha(alpha)
    t = effect.estimate / effect.standard_error
    half = float(special.stdtrit(effect.df, 1 - alpha / 2)) * effect.standard_error
    p_value = 2 * float(special.stdtr(effect.df, -abs(t)))
    return Interval(effect.estimate - half, effect.estimate + half, p_value, alpha)


def check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: expected a share of false alarms between 0 and 1, such as 0.05")
