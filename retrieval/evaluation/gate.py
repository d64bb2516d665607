"""The gate: whether a challenger may take the champion's place, judged over the same queries."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from retrieval.evaluation.compare import TIE, estimate_means, find_detectable
from retrieval.evaluation.guards import make_sku_queries, pick_cold_queries
from retrieval.evaluation.metrics import NDCG, Floats

__all__ = ["HELD_OUT", "SetResult", "Verdict", "judge", "make_sku_queries", "pick_cold_queries"]

HELD_OUT = "held-out queries"
TOGETHER = "all guard sets together"
MARGIN = 0.01  # of nDCG: a guard set may lose this much
DOUBT = 0.84  # standard errors: a loss beyond them is chance once in five times at most
LEAST_HELD_OUT = 20  # queries: below, the bootstrap's interval is too narrow
LEAST_GUARD = 10

GAINS, HOLDS, LOSES, TOO_FEW, UNDECIDED = "gains", "holds", "loses", "too few queries", "not shown to gain"


@dataclass(frozen=True, slots=True)
class SetResult:
    """One set of queries: mean values of both models, the mean difference with its 95 % interval, and what follows.

    `detectable` is the smallest true difference so many queries would show, None for one query.
    """

    name: str
    queries: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    detectable: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger passes, why in one line, and the figures of every set, the held-out one first."""

    is_passed: bool
    reason: str
    metric: str
    margin: float
    sets: tuple[SetResult, ...]
    champion: str = ""  # the version it was won against

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self) | {"sets": [asdict(each) for each in self.sets]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `to_dict` gave; raises TypeError or KeyError for anything else."""
        return cls(**{**values, "sets": tuple(SetResult(**each) for each in values["sets"])})


def judge(
    champion: Mapping[str, Floats],
    challenger: Mapping[str, Floats],
    *,
    held_out: str = HELD_OUT,
    parts: Container[str] = (),
    metric: str = NDCG,
    margin: float = MARGIN,
) -> Verdict:
    """Return whether the challenger is better on the held-out queries and worse on no guard set.

    Both mappings hold, by name of the set, one value per query, 0 to 1, in the same order. Every set but
    `held_out` is a guard; guards without queries are left out.

    - Held-out queries: the paired bootstrap interval of the gain lies above 0, over at least LEAST_HELD_OUT queries.
    - A guard set loses when its mean falls by more than `margin` and by more than DOUBT standard errors. Few
      queries cannot show that nothing was lost, so it is the loss that is tested, one-sided at 20 %: missing
      one harms more than a false alarm. At 2.8 standard errors a loss is found 97 times of 100.
    - Sets of fewer than LEAST_GUARD queries decide nothing alone; with two guard sets or more, all guard
      queries are judged together too, by the same rule. `parts` are guards drawn from the held-out queries, whose
      gain must not hide what the others lose: they are judged alone.

    Raises ValueError where the sets or their queries are not the same, or a value is no number.
    """
    _check(champion, challenger, held_out, margin)
    measured = {name: (np.asarray(champion[name], float), np.asarray(challenger[name], float)) for name in champion}
    guards = {name: pair for name, pair in measured.items() if name != held_out and len(pair[0])}
    others = [pair for name, pair in guards.items() if name not in parts]
    if len(others) > 1:
        guards[TOGETHER] = (
            np.concatenate([pair[0] for pair in others]),
            np.concatenate([pair[1] for pair in others]),
        )
    gain = _measure(held_out, *measured[held_out], margin, is_guard=False)
    sets = (gain, *(_measure(name, *pair, margin, is_guard=True) for name, pair in guards.items()))
    lost = [each for each in sets[1:] if each.state == LOSES]
    is_passed = gain.state == GAINS and not lost
    return Verdict(is_passed, _explain(gain, lost, sets[1:], metric), metric, margin, sets)


def _check(champion: Mapping[str, Floats], challenger: Mapping[str, Floats], held_out: str, margin: float) -> None:
    if margin < 0:
        raise ValueError(f"margin={margin}: expected a loss that is allowed, 0 or more")
    if champion.keys() != challenger.keys():
        odd = ", ".join(sorted(champion.keys() ^ challenger.keys()))
        raise ValueError(f"only one of the two models was measured on {odd}: measure both on the same sets")
    if held_out not in champion or not len(champion[held_out]):
        raise ValueError(f"no values for {held_out!r}: there is nothing to show a gain on")
    for name in champion:
        if len(champion[name]) != len(challenger[name]):
            counts = f"{len(champion[name])} and {len(challenger[name])}"
            raise ValueError(f"{name}: {counts} values; measure both models over the same queries")
        if not (np.isfinite(champion[name]).all() and np.isfinite(challenger[name]).all()):
            raise ValueError(f"{name}: a value is no number; measure its query again")


def _measure(name: str, before: Floats, after: Floats, margin: float, *, is_guard: bool) -> SetResult:
    differences = after - before
    [estimate] = estimate_means(differences[:, None])
    decide = decide_guard if is_guard else decide_gain
    return SetResult(
        name=name,
        queries=len(differences),
        champion=float(before.mean()),
        challenger=float(after.mean()),
        difference=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        wins=int((differences > TIE).sum()),
        losses=int((differences < -TIE).sum()),
        detectable=find_detectable(differences),
        state=decide(differences, estimate.low, margin),
    )


def decide_gain(differences: Floats, low: float, margin: float) -> str:
    """Return what a held-out set shows, `low` being the low end of its interval."""
    if len(differences) < LEAST_HELD_OUT:
        return TOO_FEW
    return GAINS if low > TIE else UNDECIDED


def decide_guard(differences: Floats, low: float, margin: float) -> str:
    """Return what a guard set shows, `low` being the low end of its interval."""
    if len(differences) < LEAST_GUARD:
        return TOO_FEW
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if mean < -margin - TIE and mean < -DOUBT * error:
        return LOSES
    return GAINS if low > TIE else HOLDS


def _explain(gain: SetResult, lost: list[SetResult], guards: tuple[SetResult, ...], metric: str) -> str:
    """Return the verdict in one line."""
    told = f"{gain.difference:+.3f} {metric} [{gain.low:.3f}, {gain.high:.3f}] on {gain.queries} {gain.name}"
    if gain.state == TOO_FEW:
        return f"fails: {told} are too few to tell, expected at least {LEAST_HELD_OUT}; rate more queries"
    causes = [f"{told}: a gain is not shown{_hint(gain)}"] if gain.state != GAINS else []
    named = [each for each in lost if each.name != TOGETHER] or lost
    causes += [f"loses {-each.difference:.3f} on {each.name} ({each.queries})" for each in named]
    if causes:
        return "fails: " + "; ".join(causes)
    unsure = [each.name for each in guards if each.state == TOO_FEW]
    ending = "loses on no guard set" if guards else "no guard set was measured"
    return f"passes: {told}, {ending}" + (f" ({', '.join(unsure)}: too few queries to tell)" if unsure else "")


def _hint(gain: SetResult) -> str:
    """Say what so many queries could have shown, where the mean did rise."""
    if gain.difference <= 0 or not gain.detectable:
        return ""
    return f", so few queries can show {gain.detectable:.3f} or more"
