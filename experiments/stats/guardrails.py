"""What a variant must not harm: whether it is worse than the champion by more than a margin, at any look."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.stats.effects import ALPHA, Effect, Interval, measure_arms, measure_contrast
from experiments.stats.sequential import find_always_valid_interval
from experiments.stats.sums import AnyStatistic, NotMeasurable

HARMED, SAFE, UNDECIDED = "harmed", "safe", "undecided"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What a guardrail shows, and why.

    HARMED: worse by more than the margin. SAFE: not worse by as much. UNDECIDED: either may be. `interval` is
    always-valid and of the metric's room, in its own unit: how far the variant is from the margin, below 0 beyond it;
    None where nothing can be measured yet.
    """

    state: str
    reason: str
    interval: Interval | None = None


def check_guardrail(
    champion: AnyStatistic,
    variant: AnyStatistic,
    *,
    margin: float,
    is_higher_better: bool,
    allowed: float | None = None,
    alpha: float = ALPHA,
) -> Guardrail:
    """Return whether the variant is worse by more than `margin` of the champion's value: 0.05 is 5 %.

    `allowed`: a value that does no harm whatever the champion's is; harmed is what is surely beyond both. Safe to ask
    at every look: over a whole test, a variant that is no worse than the margin is called harmed with a probability of
    alpha at most, in practice less than half of it; one that is worse is called safe no more often, by either reason.
    Non-inferiority by the confidence interval: Piaggio et al. 2012 (CONSORT). Linear in both values, so it needs no
    division by the champion's. Raises ValueError for a negative margin.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin}: expected the share of the champion's value that may be lost, 0 or more")
    sign = 1.0 if is_higher_better else -1.0
    effect = measure_contrast(champion, variant, scale=1 - sign * margin)
    if isinstance(effect, NotMeasurable):
        return Guardrail(UNDECIDED, str(effect))
    room = _find_room(effect, sign, alpha)
    if allowed is None:
        return _decide(room, f"{margin:.3g} of its value")
    other = _find_room(_measure_beyond(champion, variant, allowed), sign, alpha)
    both = Interval(max(room.low, other.low), max(room.high, other.high), room.p_value, alpha)
    return _decide(both, f"{margin:.3g} of its value and beyond {allowed:.3g}")


def _find_room(effect: Effect, sign: float, alpha: float) -> Interval:
    found = find_always_valid_interval(effect, alpha=alpha)
    low, high = sorted((sign * found.low, sign * found.high))
    return Interval(low, high, found.p_value, alpha)


def _measure_beyond(champion: AnyStatistic, variant: AnyStatistic, allowed: float) -> Effect:
    """Return how far the variant's value, where both can be measured, lies above the one allowed."""
    arms = measure_arms(champion, variant)
    assert not isinstance(arms, NotMeasurable)
    arm = arms[1]
    half = round(arm.n / 2)  # two arms of half the visitors have as much information as all of them in one
    return Effect(arm.value - allowed, math.sqrt(arm.variance / arm.n), half, half)


def _decide(room: Interval, margin: str) -> Guardrail:
    if room.high < 0:
        return Guardrail(HARMED, f"worse than the champion by more than {margin}", room)
    if room.low > 0:
        return Guardrail(SAFE, f"not worse than the champion by {margin}", room)
    return Guardrail(UNDECIDED, f"may be worse than the champion by {margin}, or not", room)
