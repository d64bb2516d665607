"""From visitors' sums to what an experiment shows: plain values in and out, no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.latencies import SLOW_SHARE
from experiments.stats.corrections import adjust_benjamini_hochberg, find_bonferroni_alpha
from experiments.stats.covariates import CupedMeanStatistic, CupedRatioStatistic
from experiments.stats.cuped import fit_adjustment, measure_adjusted_difference, measure_adjusted_lift
from experiments.stats.effects import Effect, Interval
from experiments.stats.guardrails import Guardrail, check_guardrail
from experiments.stats.lifts import find_lift_interval
from experiments.stats.outliers import find_cap, find_greedy, find_search_limit, winsorise
from experiments.stats.sequential import find_always_valid_interval
from experiments.stats.sums import MeanStatistic, NotMeasurable, RatioStatistic

Column = npt.NDArray[np.float64]
Visitors = Mapping[str, Column]  # by the name of a sum, shape (visitors,); with PAST before it, of the weeks before
Statistic = MeanStatistic | RatioStatistic
PAST = "past_"


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """How a metric follows from visitors' sums: `top` over `bottom`, over visitors where that is ''.

    `is_indicator`: a visitor counts once however often. `unit`: share, money or number. `noun`: what a lift is of.
    `allowed`: a value that is no harm, whatever the champion's.
    """

    key: str
    label: str
    noun: str
    top: str
    bottom: str = ""
    is_indicator: bool = False
    is_higher_better: bool = True
    unit: str = "share"
    allowed: float | None = None


METRICS = (
    MetricPlan("ctr", "searches with a click", "clicked searches", "clicked_searches", "searches"),
    MetricPlan("add_rate", "visitors who add to the cart", "filled carts", "adds", is_indicator=True),
    MetricPlan("conversion", "visitors who buy", "conversion", "purchases", is_indicator=True),
    MetricPlan("purchases", "purchases per visitor", "purchases", "purchases", unit="number"),
    MetricPlan("revenue", "revenue per visitor", "revenue", "revenue_cents", unit="money"),
    MetricPlan(
        "click_rr",
        "reciprocal rank of the first click",
        "reciprocal rank of clicks",
        "click_rr",
        "searches",
        unit="number",
    ),
    MetricPlan(
        "zero_results",
        "searches without results",
        "empty searches",
        "zero_searches",
        "searches",
        is_higher_better=False,
    ),
    MetricPlan(
        "abandoned",
        "searches left without a click",
        "abandoned searches",
        "abandoned_searches",
        "searches",
        is_higher_better=False,
    ),
)
GUARDED = (
    *(metric for metric in METRICS if metric.key in ("zero_results", "revenue")),
    MetricPlan("degraded", "searches answered without the index", "lesser answers", "degraded_searches", "searches",
               is_higher_better=False),
    MetricPlan("slow", "searches slower than the champion's p95", "slow searches", "slow_searches", "searches",
               is_higher_better=False, allowed=1.5 * SLOW_SHARE),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one variant beside the champion's; intervals are always-valid, None with the reason in `note`.

    That of the lift leaves 0 out exactly where that of the difference does; its high end may be infinite.
    `p_value` belongs to the difference; `adjusted_p_value` allows for all comparisons (Benjamini and Hochberg).
    """

    variant: str
    metric: str
    champion_value: float | None
    variant_value: float | None
    difference: Effect | None = None
    interval: Interval | None = None
    lift: float | None = None
    lift_interval: Interval | None = None
    note: str = ""
    adjusted_p_value: float | None = None
    variance_cut: float = 0.0  # by what is known of the visitors from before (CUPED)


@dataclass(frozen=True, slots=True)
class Sample:
    """The visitors that count, by variant, and how many were left out.

    `outliers`: who searched more than `most_searches`; `programs`: who clicked as no shopper does; `late`: who came
    only after their variant was stopped, and saw the champion's ranking.
    """

    visitors: Mapping[str, Visitors]
    outliers: Mapping[str, int]
    programs: Mapping[str, int]
    late: Mapping[str, int]
    most_searches: float
    cap_cents: float  # of a visitor's revenue

    def count_assigned(self, variant: str) -> int:
        """Return all visitors that the variant was given, those left out included."""
        left_out = self.outliers[variant] + self.programs[variant] + self.late[variant]
        return len(self.visitors[variant]["searches"]) + left_out

    def sum_up(self, variant: str, metric: MetricPlan) -> Statistic:
        """Return the sums of a metric over the variant's visitors."""
        found = self.sum_up_with_past(variant, metric)
        return found.metric

    def sum_up_with_past(self, variant: str, metric: MetricPlan) -> CupedMeanStatistic | CupedRatioStatistic:
        """Return the sums of a metric, and of what it was for the same visitors before the experiment."""
        values, past = self._column(variant, metric, ""), self._column(variant, metric, PAST)
        if metric.bottom:
            columns = self.visitors[variant]
            below = columns[metric.bottom], _find_past(columns, metric.bottom)
            return CupedRatioStatistic.from_values(values, below[0], past, below[1])
        return CupedMeanStatistic.from_values(values, past)

    def _column(self, variant: str, metric: MetricPlan, period: str) -> Column:
        columns = self.visitors[variant]
        values = _find_past(columns, metric.top) if period else columns[metric.top]
        if metric.top == "revenue_cents":
            values = winsorise(values, self.cap_cents)
        return (values > 0).astype(np.float64) if metric.is_indicator else values


def _find_past(columns: Visitors, name: str) -> Column:
    return columns.get(f"{PAST}{name}", np.zeros_like(columns[name]))


def draw_sample(arms: Mapping[str, Visitors]) -> Sample:
    """Return the visitors of all arms without those who search or click as no shopper does, by one rule for all."""
    came = {name: _keep(columns, columns["searches"] > 0) for name, columns in arms.items()}
    limit = find_search_limit([columns["searches"] for columns in came.values()])
    programs = {name: find_greedy(columns["searches"], columns["clicks"]) for name, columns in came.items()}
    outliers = {name: (columns["searches"] > limit) & ~programs[name] for name, columns in came.items()}
    kept = {name: _keep(columns, ~(programs[name] | outliers[name])) for name, columns in came.items()}
    # Refunds do not come through events; a negative sum would be one, and is no sale.
    cap = find_cap([np.maximum(columns["revenue_cents"], 0) for columns in kept.values()])
    late = {name: len(columns["searches"]) - len(came[name]["searches"]) for name, columns in arms.items()}
    return Sample(kept, _count(outliers), _count(programs), late, limit, cap)


def _count(chosen: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, int]:
    return {name: int(each.sum()) for name, each in chosen.items()}


def _keep(columns: Visitors, is_kept: npt.NDArray[np.bool_]) -> Visitors:
    return {name: values[is_kept] for name, values in columns.items()}


def compare_all(sample: Sample, champion: str, variants: Sequence[str]) -> list[Comparison]:
    """Return every metric of every variant beside the champion's, p-values adjusted over all of them.

    Intervals are widened for the number of variants (Bonferroni), so that one look at all of them is one look.
    """
    alpha = find_bonferroni_alpha(max(len(variants), 1))
    found = [compare(sample, champion, name, metric, alpha) for metric in METRICS for name in variants]
    measured = [one for one in found if one.interval is not None]
    p_values = [one.interval.p_value for one in measured if one.interval]
    adjusted = dict(zip(map(id, measured), adjust_benjamini_hochberg(p_values).tolist(), strict=True))
    return [replace(one, adjusted_p_value=adjusted.get(id(one))) for one in found]


def compare(sample: Sample, champion: str, variant: str, metric: MetricPlan, alpha: float) -> Comparison:
    """Return one metric of a variant beside the champion's."""
    ours: Any = sample.sum_up_with_past(champion, metric)
    theirs: Any = sample.sum_up_with_past(variant, metric)  # of the same kind
    values = _value(ours.metric), _value(theirs.metric)
    difference, lift = measure_adjusted_difference(ours, theirs), measure_adjusted_lift(ours, theirs)
    if isinstance(difference, NotMeasurable):
        return Comparison(variant, metric.key, *values, note=str(difference))
    found = Comparison(variant, metric.key, *values, difference, find_always_valid_interval(difference, alpha=alpha))
    found = replace(found, variance_cut=fit_adjustment(ours, theirs).variance_cut)
    ends = find_lift_interval(ours, theirs, alpha=alpha)
    if isinstance(lift, NotMeasurable) or isinstance(ends, NotMeasurable):
        return replace(found, note=str(ends))
    return replace(found, lift=lift.estimate, lift_interval=ends)


def _value(statistic: Statistic) -> float | None:
    arm = statistic.measure()
    return None if isinstance(arm, NotMeasurable) else arm.value


def guard(sample: Sample, champion: str, variant: str, margin: float, alpha: float) -> dict[str, Guardrail]:
    """Return by metric whether the variant does harm that nobody may look past, at any time."""
    return {
        metric.key: check_guardrail(
            sample.sum_up(champion, metric),
            sample.sum_up(variant, metric),
            margin=margin,
            is_higher_better=metric.is_higher_better,
            allowed=metric.allowed,
            alpha=alpha / len(GUARDED),
        )
        for metric in GUARDED
    }
