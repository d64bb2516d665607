"""How many visitors it takes: to find an effect of a given size, with a given probability."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from scipy import optimize, special

from experiments.stats.effects import ALPHA, Effect, check_alpha
from experiments.stats.sequential import RHO, count_effective_visitors, widen
from experiments.stats.sums import NotMeasurable

POWER = 0.8
MOST_VISITORS = 10**15


@dataclass(frozen=True, slots=True)
class ProportionTest:
    """The two-proportion z test with pooled variance, positive where the variant's share is higher; two-sided."""

    z: float
    p_value: float
    is_measurable: ClassVar[bool] = True


def compare_proportions(champion: tuple[int, int], variant: tuple[int, int]) -> ProportionTest | NotMeasurable:
    """Return the test of two (visitors who did, visitors) pairs. Fleiss, Levin and Paik 2003, ch. 3.

    Not measurable without visitors in an arm or where all or none did. Raises ValueError where more did than were seen.
    """
    for hits, n in (champion, variant):
        if not 0 <= hits <= n:
            raise ValueError(f"{hits} of {n} visitors: expected between 0 and {n}")
    (hits_a, n_a), (hits_b, n_b) = champion, variant
    if not n_a or not n_b:
        return NotMeasurable("an arm has no visitors")
    share = (hits_a + hits_b) / (n_a + n_b)
    if share in (0, 1):
        return NotMeasurable(f"{'all' if share else 'none'} of {n_a + n_b} visitors did it")
    z = (hits_b / n_b - hits_a / n_a) / math.sqrt(share * (1 - share) * (1 / n_a + 1 / n_b))
    return ProportionTest(z, 2 * float(special.ndtr(-abs(z))))


def count_visitors_for_proportions(
    baseline: float, target: float, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """Return the visitors per arm at which a two-sided test finds `target` instead of `baseline`, both 0 to 1.

    2 (z_(1 − alpha / 2) + z_power)² / h², h the arcsine effect size: Cohen 1988, ch. 6. For one look; a test looked
    at every day needs more: `count_visitors_to_find`.
    """
    return _to_visitors(2 * (_sum_quantiles(alpha, power) / measure_arcsine_effect(baseline, target)) ** 2)


def find_power_for_proportions(baseline: float, target: float, visitors_per_arm: int, *, alpha: float = ALPHA) -> float:
    """Return the probability, 0 to 1, that a two-sided test of so many visitors per arm finds the difference."""
    check_alpha(alpha)
    if visitors_per_arm < 1:
        raise ValueError(f"visitors_per_arm={visitors_per_arm}: expected at least 1")
    shift = abs(measure_arcsine_effect(baseline, target)) * math.sqrt(visitors_per_arm / 2)
    quantile = float(special.ndtri(1 - alpha / 2))
    return float(special.ndtr(shift - quantile) + special.ndtr(-shift - quantile))


def measure_arcsine_effect(baseline: float, target: float) -> float:
    """Return Cohen's h, 2 asin(sqrt(target)) − 2 asin(sqrt(baseline)): its variance hardly depends on the share."""
    for share in (baseline, target):
        if not 0 <= share <= 1:
            raise ValueError(f"share {share}: expected between 0 and 1")
    if baseline == target:
        raise ValueError(f"baseline and target are both {target}: no number of visitors finds no difference")
    return 2 * (math.asin(math.sqrt(target)) - math.asin(math.sqrt(baseline)))


def count_visitors_for_means(variance: float, difference: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Return the visitors per arm at which a difference of means is found, `variance` being that of one visitor.

    2 variance (z_(1 − alpha / 2) + z_power)² / difference², the normal approximation; for one look. `Arm.variance`
    serves means and ratios alike.
    """
    if not (0 < variance < math.inf and math.isfinite(difference) and difference):
        raise ValueError(f"variance={variance}, difference={difference}: expected a number above 0 and one not 0")
    return _to_visitors(2 * variance * (_sum_quantiles(alpha, power) / difference) ** 2)


def find_detectable(effect: Effect, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest true effect, in the effect's own unit, that one look at so many visitors finds."""
    return _sum_quantiles(alpha, power) * effect.standard_error


def count_visitors_to_find(
    effect: Effect, size: float, *, alpha: float = ALPHA, power: float = POWER, rho: float = RHO
) -> int:
    """Return the visitors of both arms at which the always-valid interval leaves 0 out if the true effect is `size`.

    The effect so far gives split and standard error, which falls with the root of the visitors. `power` is for the
    last look alone, so the chance to have found it by then is higher. At most about 1e15. Raises ValueError if `size`
    is 0.
    """
    if not size or not math.isfinite(size):
        raise ValueError(f"size={size}: expected the effect that is worth finding, not 0")
    _sum_quantiles(alpha, power)
    quantile, now = float(special.ndtri(power)), count_effective_visitors(effect)

    def lack(log_growth: float) -> float:
        error = effect.standard_error * math.exp(-log_growth / 2)
        return (widen(now * math.exp(log_growth), alpha, rho) + quantile) * error - abs(size)

    least, most = math.log(1 / now), math.log(MOST_VISITORS / now)
    growth = least if lack(least) < 0 else most if lack(most) > 0 else optimize.brentq(lack, least, most)
    return math.ceil(math.exp(growth) * (effect.n_champion + effect.n_variant))


def count_days_to_go(visitors_needed: int, visitors_so_far: int, visitors_per_day: float) -> int | NotMeasurable:
    """Return the whole days until so many visitors were seen, 0 where they were; not measurable without visitors."""
    if visitors_needed <= visitors_so_far:
        return 0
    if not visitors_per_day > 0:
        return NotMeasurable("no visitors come into the experiment")
    return math.ceil((visitors_needed - visitors_so_far) / visitors_per_day)


def _to_visitors(count: float) -> int:
    """Return the nearest whole number, for what is an approximation anyway; at least the 2 that a variance needs."""
    return max(round(count), 2)


def _sum_quantiles(alpha: float, power: float) -> float:
    check_alpha(alpha)
    if not alpha < power < 1:
        raise ValueError(f"power={power}: expected above alpha={alpha} and below 1, such as 0.8")
    return float(special.ndtri(1 - alpha / 2) + special.ndtri(power))
