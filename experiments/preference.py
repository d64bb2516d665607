"""Which of two interleaved rankings visitors chose from, at any look."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from experiments.interleaving import measure_preference, tally_visitors
from experiments.stats.effects import ALPHA, Effect
from experiments.stats.sequential import find_always_valid_interval
from experiments.verdicts import ENDED, describe_ends, tell_percent


@dataclass(frozen=True, slots=True)
class Preferred:
    """How many visitors chose from each side, and by how much more from the variant's.

    `share`: of the visitors, those who preferred the variant less those who preferred the champion; its interval is
    always-valid. `p_value` is the sign test's, for one look. None where nobody was seen.
    """

    state: str
    sentence: str
    wins: int
    losses: int
    ties: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def prefer(net_wins: npt.NDArray[np.float64], champion: str, variant: str, *, is_over: bool = False) -> Preferred:
    """Return what visitors preferred, given how many more searches of each the variant won than it lost.

    `is_over`: nobody is in it any more.
    """
    lead = ENDED if is_over else "Not yet"
    tally = tally_visitors(net_wins)
    signs = np.sign(net_wins)
    if tally.total < 2 or not tally.wins_a + tally.wins_b:
        return Preferred("no visitors", f"{lead}: nobody has chosen from either ranking.", 0, 0, tally.total)
    if not signs.std():
        told = f"{lead}: all {tally.total} visitors chose alike, too few to say how many more would."
        return Preferred("ended" if is_over else "not yet", told, tally.wins_a, tally.wins_b, 0)
    half = tally.total / 2  # two arms of half the visitors have as much information as all of them in one
    effect = Effect(float(signs.mean()), float(signs.std(ddof=1)) / math.sqrt(tally.total), round(half), round(half))
    interval = find_always_valid_interval(effect, alpha=ALPHA)
    state = "winner" if interval.low > 0 else "loser" if interval.high < 0 else "ended" if is_over else "not yet"
    return Preferred(
        state,
        _say(state, (champion, variant), effect.estimate, (interval.low, interval.high), is_over=is_over),
        tally.wins_a,
        tally.wins_b,
        tally.ties,
        effect.estimate,
        interval.low,
        interval.high,
        measure_preference(tally).p_value,
    )


def _say(state: str, names: tuple[str, str], share: float, ends: tuple[float, float], *, is_over: bool) -> str:
    champion, variant = names
    told = f"{tell_percent(share, '+')} % of visitors, 95 % interval {describe_ends(*ends)}"
    lead, end = (ENDED, ".") if is_over else ("Not yet", "; safe to stop.")
    if state == "winner":
        return f"Visitors prefer {variant}: {told}{end}"
    if state == "loser":
        return f"Visitors prefer {champion}: {told} for {variant}{end}"
    return f"{lead}: {told} for {variant}, which may be chance."
