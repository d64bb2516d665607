"""How long an experiment will take, before its start: from what visitors did lately to visitors, days and lifts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

from experiments.analysis import MetricPlan, Visitors, draw_sample
from experiments.stats.corrections import find_bonferroni_alpha
from experiments.stats.effects import Effect
from experiments.stats.power import POWER, count_days_to_go, count_visitors_to_find
from experiments.stats.sequential import widen
from experiments.stats.sums import Arm, NotMeasurable

WEEK = 7
EVERYBODY = "everybody"
REFERENCE = 10**9  # visitors: shares of so many are whole numbers
NOBODY = "nobody looked at has searched in these segments"
PREFERRED = 0.55  # of those who choose, from the better of two interleaved rankings


@dataclass(frozen=True, slots=True)
class Question:
    """What an experiment is to find. `weights`: the variants', the champion's first; `share`: of visitors, 0 to 1."""

    metric: MetricPlan
    lift: float
    weights: tuple[float, ...] = (1.0, 1.0)
    share: float = 1.0

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """The champion's share of the visitors with that of each other variant."""
        champion, *others = (weight / sum(self.weights) for weight in self.weights)
        return [(champion, other) for other in others]

    @property
    def alpha(self) -> float:
        return find_bonferroni_alpha(len(self.weights) - 1)

    @property
    def lack(self) -> str:
        """What it lacks to compare anything, with the cure; '' for nothing."""
        if not self.weights:
            return "there are no variants: add two or more"
        if len(self.weights) == 1:
            return "there is only one variant: add one to compare it with"
        return "" if min(self.weights) > 0 else "a variant without weight gets no visitors"


@dataclass(frozen=True, slots=True)
class Period:
    """The last days: how many visitors counted in them, and what a metric was by visitor.

    `weeks`: it stands for; there may be fewer days yet.
    """

    weeks: int
    days: int
    visitors: float
    arm: Arm

    @property
    def visitors_per_day(self) -> float:
        return self.visitors / self.days

    @property
    def is_whole(self) -> bool:
        return self.days >= self.weeks * WEEK


@dataclass(frozen=True, slots=True)
class Forecast:
    """Visitors and days to find the lift, the metric's value now, and what can be found in so many weeks.

    `lifts`: by weeks, the smallest lift found with a chance of 80 %, after visitors; infinite where none could happen.
    """

    visitors: int
    days: int
    value: float
    lifts: Mapping[int, tuple[float, float]]


def forecast(question: Question, periods: Sequence[Period]) -> Forecast | NotMeasurable:
    """Return what the last periods, shortest first, promise; not measurable where nobody would come or do anything.

    Visitors who return are known better, not more: the shortest period that is long enough tells the days, else the
    longest. Each lift is that of a period of its own length: of days that were not yet, nobody knows who returns.
    """
    if question.lack:
        return NotMeasurable(question.lack)
    if not periods or periods[-1].arm.value <= 0 or periods[-1].arm.variance <= 0:
        return NotMeasurable(_name_nothing(question.metric, periods))
    value = periods[-1].arm.value
    if not could_happen(question.metric, value, question.lift):
        return NotMeasurable(_name_impossible(question, value))
    useful = [one for one in periods if one.arm.value > 0 and one.arm.variance > 0]
    needed = [count_visitors(question, one.arm) for one in useful]
    enough = (number for number, one in enumerate(useful) if needed[number] <= one.visitors * question.share)
    chosen = next(enough, len(useful) - 1)
    days = count_days_to_go(needed[chosen], 0, useful[chosen].visitors_per_day * question.share)
    if isinstance(days, NotMeasurable):
        return days
    return Forecast(needed[chosen], days, value, {one.weeks: _promise(question, one) for one in useful if one.is_whole})


def _name_nothing(metric: MetricPlan, periods: Sequence[Period]) -> str:
    if not periods:
        return "nobody was seen"
    arm = periods[-1].arm
    if not arm.n:
        return NOBODY
    return f"all {arm.n:,} visitors looked at have the same value of {metric.label}, {arm.value:g}"


def _name_impossible(question: Question, value: float) -> str:
    metric = question.metric
    change = f"{'+' if metric.is_higher_better else '-'}{100 * question.lift:g} % {metric.noun}"
    return f"{change} cannot happen, now it is {value:.3g} {metric.label}: ask for a smaller lift"


def could_happen(metric: MetricPlan, value: float, lift: float) -> bool:
    """Return whether a metric can get so much better: no share grows beyond 1, nothing falls to 0 or below."""
    if not metric.is_higher_better:
        return lift < 1
    is_share = metric.is_indicator or bool(metric.bottom)
    return math.isfinite(lift) and (not is_share or value * (1 + lift) <= 1)


def _promise(question: Question, period: Period) -> tuple[float, float]:
    visitors = period.visitors_per_day * WEEK * period.weeks * question.share
    lift = find_lift(question, period.arm, visitors)
    return visitors, lift if could_happen(question.metric, period.arm.value, lift) else math.inf


def count_visitors(question: Question, arm: Arm) -> int:
    """Return the visitors of all variants at which the always-valid interval of each shows the lift, with 80 % power.

    That is the chance at the last look; with earlier ones it is higher. A variant's variance is taken to grow with its
    value, as that of counts does. CUPED is left out: with it, fewer visitors do.
    """
    size, needed = question.lift * arm.value, []
    for champion, variant in question.pairs:
        n_champion, n_variant = champion * REFERENCE, variant * REFERENCE
        error = math.sqrt(arm.variance / n_champion + arm.variance * (1 + question.lift) / n_variant)
        effect = Effect(0.0, error, round(n_champion), round(n_variant))
        needed.append(count_visitors_to_find(effect, size, alpha=question.alpha) / (champion + variant))
    return math.ceil(max(needed))


def find_lift(question: Question, arm: Arm, visitors: float) -> float:
    """Return the smallest lift that so many visitors of all variants show with 80 % power: the other way round.

    With e = (widening + z_power)² · variance, the difference d solves
    d² = e / n_champion + e (1 + d / value) / n_variant.
    """
    found = []
    for champion, variant in question.pairs:
        n_champion, n_variant = champion * visitors, variant * visitors
        seen = 4 / (1 / n_champion + 1 / n_variant) if visitors > 0 else 0.0
        if seen <= 0:
            return math.inf
        scale = (widen(seen, question.alpha) + float(special.ndtri(POWER))) ** 2 * arm.variance
        linear = scale / (n_variant * arm.value)
        found.append((linear + math.sqrt(linear**2 + 4 * scale * (1 / n_champion + 1 / n_variant))) / 2)
    return max(found) / arm.value


def count_visitors_to_prefer(choosing: float) -> int:
    """Return the visitors at which interleaving shows that PREFERRED of those who choose prefer one side.

    `choosing`: the share of the visitors who do, above 0. Visitors count -1, 0 or 1, as `preference.prefer` has it.
    """
    size = choosing * (2 * PREFERRED - 1)
    half = REFERENCE // 2
    return count_visitors_to_find(Effect(0.0, math.sqrt((choosing - size**2) / REFERENCE), half, half), size)


def measure_visitors(sums: Visitors, metric: MetricPlan) -> Arm:
    """Return the metric over the visitors whom reports count, which is without outliers; 0 where it has no value."""
    sample = draw_sample({EVERYBODY: sums})
    arm = sample.sum_up(EVERYBODY, metric).measure()
    if isinstance(arm, NotMeasurable):
        return Arm(len(sample.visitors[EVERYBODY]["searches"]), 0.0, 0.0, math.inf)
    return arm
