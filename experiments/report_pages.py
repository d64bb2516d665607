"""What report pages show: a stored report with its charts drawn and its figures in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.utils.safestring import SafeString

from catalog.models import Product
from catalog.money import to_major
from experiments.analysis import GUARDED, METRICS, MetricPlan
from experiments.control import find_winner
from experiments.latencies import FIRST_SEARCHES
from experiments.models import Experiment, Variant
from experiments.offline_pages import OfflineResult
from experiments.report_rows import LEFT_OUT
from experiments.stats.effects import ALPHA
from experiments.verdicts import describe_ends, tell_percent
from retrieval.plots import Line, draw_lines

LABELS = {metric.key: metric.label for metric in (*METRICS, *GUARDED)}
PLANS: dict[str, MetricPlan] = {metric.key: metric for metric in METRICS}
CLIPPED = 2  # times the widest of the later days: what a chart shows of the first ones
FUNNEL = ("searched", "clicked", "added", "bought")
NO_REPORT = {"state": "no visitors", "sentence": "No report has been made yet: that is done every few minutes."}


@dataclass(frozen=True)
class MetricRow:
    """A line of the table of metrics, in words."""

    variant: str
    label: str
    champion: str
    value: str
    lift: str
    interval: str
    p_value: str
    verdict: str  # better, worse or ''
    is_deciding: bool
    is_stopped: bool
    note: str


@dataclass(frozen=True)
class ReportPage:
    """An experiment with its report as it was last made."""

    experiment: Experiment
    content: dict[str, Any]
    made_at: datetime | None
    first_searches: ClassVar[int] = FIRST_SEARCHES

    @classmethod
    def of(cls, experiment: Experiment) -> ReportPage:
        try:
            report = experiment.report
        except ObjectDoesNotExist:
            return cls(experiment, dict(NO_REPORT), None)
        return cls(experiment, report.content or dict(NO_REPORT), report.made_at)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for programs: whose it is, and all that was found."""
        facts = {"experiment": self.experiment.name, "status": self.experiment.status, "made_at": self.made_at}
        return facts | self.content | ({"offline": self.offline.to_dict()} if self.offline else {})

    @property
    def metric_label(self) -> str:
        return LABELS[self.experiment.metric]

    @property
    def is_interleaving(self) -> bool:
        return self.experiment.kind == Experiment.Kind.INTERLEAVING

    @cached_property
    def winner(self) -> Variant | None:
        """The variant that the report says wins, None without one."""
        return find_winner(self.experiment)

    @property
    def is_blank(self) -> bool:
        """Return whether the figures are not shown, for they would mislead."""
        return bool(self.content.get("ratio", {}).get("is_broken"))

    @cached_property
    def charts(self) -> list[SafeString]:
        """The chart of what is decided by, one a variant: the estimate and its interval at the end of each day."""
        days = self.content.get("days", [])
        if self.is_blank or not days:
            return []
        if self.is_interleaving:
            points = [[day["share"], day["low"], day["high"]] if day["share"] is not None else None for day in days]
            variant = self.content["variants"][-1]
            return [_draw(f"Visitors who prefer {variant}, less those who do not", "% of visitors", points, days)]
        return [
            _draw(f"{name}: lift of {self.metric_label}", "lift, %", [day["lifts"].get(name) for day in days], days)
            for name in self.content["variants"][1:]
        ]

    @property
    def rows(self) -> list[MetricRow]:
        return [] if self.is_blank else [self._describe(one) for one in self.content.get("comparisons", [])]

    def _describe(self, one: dict[str, Any]) -> MetricRow:
        plan, ends, p_value = PLANS[one["metric"]], one["lift_interval"], self._find_p_value(one)
        return MetricRow(
            one["variant"],
            plan.label,
            show(plan, one["champion_value"]),
            show(plan, one["variant_value"]),
            "" if one["lift"] is None else f"{tell_percent(one['lift'], '+')} %",
            f"{describe_ends(ends['low'], ends['high'], '+')} %" if ends else "",
            "" if p_value is None else f"{p_value:.3f}",
            _judge(one, plan, p_value),
            one["metric"] == self.experiment.metric,
            one["variant"] in self.content.get("stopped", {}),
            one["note"],
        )

    def _find_p_value(self, one: dict[str, Any]) -> float | None:
        """Return the p-value of a line: what decides allows for the variants, as its interval does, others for all."""
        if one["metric"] != self.experiment.metric or not one["interval"]:
            return None if one["adjusted_p_value"] is None else float(one["adjusted_p_value"])
        return min(1.0, float(one["interval"]["p_value"]) * max(len(self.content["variants"]) - 1, 1))

    @property
    def counted(self) -> Iterator[tuple[str, bool, list[int]]]:
        """Yield each variant, whether it was stopped, and its visitors: those counted, then those left out and why."""
        for variant, count in self.content.get("visitors", {}).items():
            left_out = (self.content.get(name, {}).get(variant, 0) for name in LEFT_OUT)
            yield variant, variant in self.content.get("stopped", {}), [count, *left_out]

    @property
    def variance_cut(self) -> float:
        """Return the percentage of the deciding metric's variance that visitors' past explains, the most of any."""
        found = [one for one in self.content.get("comparisons", []) if one["metric"] == self.experiment.metric]
        return 100 * max((one.get("variance_cut", 0.0) for one in found), default=0.0)

    @cached_property
    def offline(self) -> OfflineResult | None:
        """The last offline evaluation of its variants, None without one."""
        return OfflineResult.last_of(self.experiment)

    @property
    def guardrails(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield variant, metric, state and reason."""
        for variant, found in sorted(self.content.get("guardrails", {}).items()):
            for metric in GUARDED:
                yield variant, metric.label, found[metric.key]["state"], found[metric.key]["reason"]

    @property
    def funnel(self) -> Iterator[tuple[str, list[tuple[str, int, float]]]]:
        """Yield each variant with its steps: name, visitors, and their share of those who searched in percent."""
        funnel = self.content.get("funnel", {})
        for variant in self.content["variants"] if funnel else ():
            counts = funnel[variant]  # some databases keep no order of names
            searched = max(counts["searched"], 1)
            yield variant, [(name, counts[name], 100 * counts[name] / searched) for name in FUNNEL]

    @cached_property
    def queries(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        """Variant, what its queries did, and the queries with the products both showed."""
        found = self.content.get("queries", {})
        lists = [one for each in found.values() for queries in each.values() for one in queries]
        skus = {sku for one in lists for name in ("champion_list", "variant_list") for sku in one[name]}
        titles = dict(Product.objects.filter(sku__in=skus).values_list("sku", "title"))
        for one in lists:
            one["champion_products"] = [(sku, titles.get(sku, sku)) for sku in one["champion_list"]]
            one["variant_products"] = [(sku, titles.get(sku, sku)) for sku in one["variant_list"]]
        return [(variant, name, each[name]) for variant, each in sorted(found.items()) for name in ("gained", "lost")]


def _judge(one: dict[str, Any], plan: MetricPlan, p_value: float | None) -> str:
    """Return better or worse where both the interval and the p-value of a line say so, else ''."""
    interval = one["interval"]
    if not interval or p_value is None or p_value >= ALPHA or interval["low"] <= 0 <= interval["high"]:
        return ""
    return "better" if (interval["low"] > 0) == plan.is_higher_better else "worse"


def list_reports() -> list[ReportPage]:
    """Return every experiment that ever ran, running ones first."""
    found = Experiment.objects.exclude(started_at=None).select_related("report").prefetch_related("variants")
    return [ReportPage.of(one) for one in sorted(found, key=lambda one: (not one.is_running, -one.pk))]


def show(plan: MetricPlan, value: float | None) -> str:
    """Return a metric's value as people read it."""
    if value is None:
        return "–"
    if plan.unit == "share":
        return f"{100 * value:.2f} %"
    if plan.unit == "money":
        currency = settings.SEARCHSITE["CURRENCY"]
        return f"{to_major(round(value), currency):f} {currency}"
    return f"{value:.3f}"


def _draw(title: str, unit: str, points: list[list[float | None] | None], days: list[dict[str, Any]]) -> SafeString:
    known = [(number, found) for number, found in enumerate(points, 1) if found]
    lines = []
    for place, name in enumerate(("estimate", "low end", "high end")):
        reached = [(number, found[place]) for number, found in known]
        lines.append(Line(name, [(number, 100 * end) for number, end in reached if end is not None]))
    described = "The estimate at the end of each day with the ends of its 95 % interval, which holds at every look."
    spanned = f"day with visitors, {days[0]['day']} to {days[-1]['day']}"
    # The first days know next to nothing: ends far outside what the later ones say would flatten all else.
    later = [abs(value) for line in lines for _, value in line.points[len(line.points) // 2 :]]
    most = CLIPPED * max(later, default=math.inf)
    return draw_lines(title, described, lines, x_label=spanned, y_label=unit, y_range=(-1, 1), y_limits=(-most, most))
