"""Intervals that hold at every look at once: test as often as you like, stop when you like.

Asymptotic confidence sequences: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit
theory and asymptotic confidence sequences": for t visitors of standard deviation s, the mean lies within

    s · sqrt(2 (t rho² + 1) / (t² rho²) · log(sqrt(t rho² + 1) / alpha))

at all t with probability 1 − alpha. With the standard error s / sqrt(t) in front, what remains depends on t alone.
"""

from __future__ import annotations

import math

from scipy import special

from experiments.stats.effects import ALPHA, Effect, Interval, check_alpha

TUNED_FOR = 5000  # visitors of both arms at which the interval is narrowest, in standard errors of one look


def tune_rho(visitors: float = TUNED_FOR, alpha: float = ALPHA) -> float:
    """Return the rho that makes the interval of that level narrowest at so many visitors; any other is valid too.

    The exact optimum, with the Lambert W function, which Waudby-Smith et al. 2021 also give an approximation of.
    """
    check_alpha(alpha)
    if not 0 < visitors < math.inf:
        raise ValueError(f"visitors={visitors}: expected a number above 0")
    return math.sqrt((-float(special.lambertw(-(alpha**2) / math.e, -1).real) - 1) / visitors)


RHO = tune_rho()


def find_always_valid_interval(effect: Effect, *, alpha: float = ALPHA, rho: float = RHO) -> Interval:
    """Return the interval that covers at all looks together with probability 1 − alpha, and its p-value.

    One rho serves all levels, so that the p-value is below any alpha exactly where the interval of that level leaves
    0 out. Choose it before the test, never by the data. Asymptotic: it trusts the standard error, which it forgives
    early on by being very wide (13.8 standard errors at 20 visitors, 3.04 at 5,000, 1.96 for a single look).
    """
    visitors = count_effective_visitors(effect)
    half = widen(visitors, alpha, rho) * effect.standard_error
    p_value = _find_p_value(effect.estimate / effect.standard_error, visitors * rho**2)
    return Interval(effect.estimate - half, effect.estimate + half, p_value, alpha)


def widen(visitors: float, alpha: float = ALPHA, rho: float = RHO) -> float:
    """Return half the width of the always-valid interval in standard errors."""
    check_alpha(alpha)
    if not (rho > 0 and visitors > 0):
        raise ValueError(f"rho={rho}, visitors={visitors}: expected both above 0")
    time = visitors * rho**2
    return math.sqrt((time + 1) / time * math.log((time + 1) / alpha**2))


def count_effective_visitors(effect: Effect) -> float:
    """Return the time t of an effect between two arms: 4 / (1 / n_champion + 1 / n_variant).

    That is n_champion + n_variant for arms of equal size. The squared standard error of a difference falls in
    proportion to its inverse, whatever the split, even one that changes during the test; and a tiny arm beside a large
    one counts as early: its standard error is not to be trusted yet.
    """
    return 4 / (1 / effect.n_champion + 1 / effect.n_variant)


def _find_p_value(z: float, time: float) -> float:
    """Return 1 over the mixture martingale that the interval inverts (Robbins 1970), at most 1."""
    exponent = z**2 * time / (2 * (time + 1))
    return min(1.0, math.exp(0.5 * math.log1p(time) - exponent))
