"""What a variant must not harm: whether it is worse than the champion by more than a margin, at any look."""

from __future__ import annotations

import math
from dataclasses import dataclass

from experiments.stats.effects import ALPHA, Interval, measure_contrast
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
    champion: AnyStatistic, variant: AnyStatistic, *, margin: float, is_higher_better: bool, alpha: float = ALPHA
) -> Guardrail:
    """Return whether the variant is worse by more than `margin` of the champion's value: 0.05 is 5 %.

    Safe to ask at every look: over a whole test, a variant that is no worse than the margin is called harmed with a
    probability of alpha at most, in practice less than half of it; one that is worse is called safe no more often.
    Non-inferiority by the confidence interval: Piaggio et al. 2012 (CONSORT). Linear in both values, so it needs no
    division by the champion's. Raises ValueError for a negative margin.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin}: expected the share of the champion's value that may be lost, 0 or more")
    sign = 1.0 if is_higher_better else -1.0
    effect = measure_contrast(champion, variant, scale=1 - sign * margin)
    if isinstance(effect, NotMeasurable):
        return Guardrail(UNDECIDED, str(effect))
    found = find_always_valid_interval(effect, alpha=alpha)
    low, high = sorted((sign * found.low, sign * found.high))
    return _decide(Interval(low, high, found.p_value, alpha), margin)


def _decide(room: Interval, margin: float) -> Guardrail:
    if room.high < 0:
        return Guardrail(HARMED, f"worse than the champion by more than {margin:.3g} of its value", room)
    if room.low > 0:
        return Guardrail(SAFE, f"not worse than the champion by {margin:.3g} of its value", room)
    return Guardrail(UNDECIDED, f"may be worse than the champion by {margin:.3g} of its value, or not", room)
