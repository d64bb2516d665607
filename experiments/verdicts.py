"""The first line of a report: what an experiment says, in words that can be acted on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.analysis import METRICS, Comparison, MetricPlan
from experiments.stats.power import count_days_to_go, count_visitors_to_find
from experiments.stats.sums import NotMeasurable

GAINS = {
    "ctr": "is clicked more",
    "add_rate": "fills more carts",
    "conversion": "sells more",
    "purchases": "sells more",
    "revenue": "earns more",
    "click_rr": "is clicked further up",
    "zero_results": "leaves fewer searches empty",
    "abandoned": "leaves fewer searches without a click",
}

ENDED = "Ended without an answer"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the first line follows from. `comparisons`: of the deciding metric; `stopped`: reasons by variant.

    `is_over`: nobody is in it any more. `ratio_p_value`: of the split, by one look, where that sets off the alarm.
    """

    metric: str
    worthwhile_lift: float
    is_broken: bool
    comparisons: Sequence[Comparison]
    days: int
    stopped: Mapping[str, str]
    is_over: bool = False
    ratio_p_value: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`state`: broken, winner, loser, equal, not yet, ended (without an answer) or no visitors.

    `variant`: the one that the sentence is about.
    """

    state: str
    sentence: str
    variant: str = ""


def say(facts: Facts) -> Verdict:
    """Return the first line; of several variants, about one that surely wins, else about the one furthest ahead.

    Variants stopped are named, and a split that looks wrong.
    """
    verdict = _decide(facts)
    told = [verdict.sentence, *(f"{name} was stopped: {reason}." for name, reason in facts.stopped.items())]
    if facts.ratio_p_value is not None and not facts.is_broken:
        told.append(
            f"But the split of visitors looks wrong (chi-square, p = {facts.ratio_p_value:.1g}): before acting on "
            "this, check redirects, caches, bots, and weights that were changed."
        )
    return replace(verdict, sentence=" ".join(told))


def _decide(facts: Facts) -> Verdict:
    if facts.is_broken:
        return Verdict("broken", "Broken: sample ratio mismatch. The variants did not get the visitors they should.")
    if facts.stopped and not facts.comparisons:
        return Verdict("loser", "No variant is left.")
    measured = [one for one in facts.comparisons if one.interval is not None and one.difference is not None]
    if not measured:
        reason = facts.comparisons[0].note if facts.comparisons else "there is nothing to compare"
        lead = ENDED if facts.is_over else "Not yet"
        return Verdict("no visitors", f"{lead}: {reason.removeprefix(NotMeasurable.PREFIX)}.")
    plan = next(metric for metric in METRICS if metric.key == facts.metric)
    best = max(measured, key=lambda one: _rank(one, plan))
    return Verdict(*_judge(best, plan, facts), best.variant)


def _rank(one: Comparison, plan: MetricPlan) -> tuple[int, float]:
    """Return what is larger the more there is to say for a variant: surely better, undecided, surely worse."""
    assert one.interval
    assert one.difference
    sign = 1 if plan.is_higher_better else -1
    low, high = sorted((sign * one.interval.low, sign * one.interval.high))
    return (low > 0) - (high < 0), sign * one.difference.estimate


def _judge(one: Comparison, plan: MetricPlan, facts: Facts) -> tuple[str, str]:
    """Return the state and the sentence about a variant."""
    assert one.interval is not None
    assert one.difference is not None
    low, high = one.interval.low, one.interval.high
    if low > 0 or high < 0:
        is_better = (low > 0) == plan.is_higher_better
        claim = f"{one.variant} {GAINS[plan.key]}" if is_better else f"{one.variant} is worse in {plan.label}"
        return "winner" if is_better else "loser", f"{claim}: {describe(one, plan)}{_end(facts)}"
    if one.lift_interval and max(-one.lift_interval.low, one.lift_interval.high) < facts.worthwhile_lift:
        told = f"{one.variant} is as good as the champion: {describe(one, plan)}"
        return "equal", f"{told}, less than the {100 * facts.worthwhile_lift:g} % worth finding{_end(facts)}"
    if facts.is_over:
        return "ended", f"{ENDED}: {describe(one, plan)}."
    return "not yet", f"Not yet: {_say_time_left(one, facts)}; so far {describe(one, plan)}."


def _end(facts: Facts) -> str:
    return "; safe to stop." if facts.ratio_p_value is None and not facts.is_over else "."


def describe(one: Comparison, plan: MetricPlan) -> str:
    """Return the effect in words: as a lift where there is one, else in the metric's own unit."""
    if one.lift is not None and one.lift_interval is not None:
        ends = describe_ends(one.lift_interval.low, one.lift_interval.high)
        return f"{tell_percent(one.lift, '+')} % {plan.noun}, 95 % interval {ends}"
    assert one.interval is not None
    assert one.difference is not None
    return (
        f"{one.difference.estimate:+.4g} {plan.noun}, 95 % interval {one.interval.low:.4g} to {one.interval.high:.4g}"
    )


def describe_ends(low: float, high: float | None, sign: str = "") -> str:
    """Return the ends of an interval of shares in percent; None or infinite is a high end that nobody knows yet."""
    if high is None or math.isinf(high):
        return f"from {tell_percent(low, sign)} up"
    return f"{tell_percent(low, sign)} to {tell_percent(high, sign)}"


def tell_percent(share: float, sign: str = "") -> str:
    """Return a share in percent with one decimal, more where it would read 0 and is not; '+' has it signed."""
    told = f"{100 * share:{sign}.1f}"
    return told if float(told) or not share else f"{100 * share:{sign}.1g}"


def _say_time_left(one: Comparison, facts: Facts) -> str:
    """Return how long it takes to find the lift that is worth finding, at the pace so far."""
    assert one.difference
    assert one.interval
    if not one.champion_value:
        return "the champion has nothing yet to compare with"
    size = facts.worthwhile_lift * abs(one.champion_value)
    seen = one.difference.n_champion + one.difference.n_variant
    needed = count_visitors_to_find(one.difference, size, alpha=one.interval.alpha)
    days = count_days_to_go(needed, seen, seen / max(facts.days, 1))
    if isinstance(days, NotMeasurable):
        return str(days)
    return f"about {days:,} day{'' if days == 1 else 's'} to go" if days else "any day now"
