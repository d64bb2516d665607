"""The always-valid interval of a relative lift, which leaves 0 out exactly where that of the difference does."""

from __future__ import annotations

import math

from experiments.stats.cuped import AnyCuped, measure_adjusted_contrast, measure_adjusted_lift
from experiments.stats.effects import ALPHA, Effect, Interval
from experiments.stats.sequential import count_effective_visitors, find_always_valid_interval, widen
from experiments.stats.sums import NotMeasurable


def find_lift_interval(champion: AnyCuped, variant: AnyCuped, *, alpha: float = ALPHA) -> Interval | NotMeasurable:
    """Return the lifts that the data allow: those r for which the interval of variant − (1 + r) · champion holds 0.

    Fieller 1954, "Some Problems in Interval Estimation", with always-valid intervals. Nothing falls by more than all
    of it, so none lies below −1 unless the estimate does; the high end is infinite while the champion's value may be
    0. `p_value` is the difference's. Not measurable where the lift is not.
    """
    lift = measure_adjusted_lift(champion, variant)
    if isinstance(lift, NotMeasurable):
        return lift
    found = [measure_adjusted_contrast(champion, variant, scale=scale) for scale in (-1.0, 0.0, 1.0)]
    effects = [effect for effect in found if isinstance(effect, Effect)]
    assert len(effects) == len(found)  # where the lift can be measured
    width = widen(count_effective_visitors(effects[2]), alpha)
    below, at_zero, above = (effect.estimate**2 - (width * effect.standard_error) ** 2 for effect in effects)
    square, linear = (above + below) / 2 - at_zero, (above - below) / 2
    low, high = _solve(square, linear, at_zero, lift.estimate + 1)
    difference = find_always_valid_interval(effects[2], alpha=alpha)
    if (low <= 1 <= high) != difference.covers(0.0):  # two ranges fit, one of them of a champion below 0
        return NotMeasurable("the champion's adjusted value may be 0, a lift needs one above it")
    return Interval(low - 1, high - 1, difference.p_value, alpha)


def _solve(square: float, linear: float, constant: float, within: float) -> tuple[float, float]:
    """Return the range around `within`, from 0 on, in which square · s² + linear · s + constant <= 0."""
    floor, discriminant = min(0.0, within), linear**2 - 4 * square * constant
    if square <= 0 and discriminant <= 0:
        return floor, math.inf
    # The root far from 0 first, the other by Vieta: none is a difference of two numbers close to each other.
    far = -(linear + math.copysign(math.sqrt(max(discriminant, 0.0)), linear)) / 2
    roots = sorted(end for end in (far / square if square else math.inf, constant / far if far else 0.0))
    if square > 0:
        return max(roots[0], floor), roots[1]
    return (max(roots[1], floor), math.inf) if within >= roots[1] else (floor, max(roots[0], floor))
