"""What the page about searches shows: a summary as it was last made, in words, charts and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db.models import Sum
from django.utils.safestring import SafeString

from catalog.money import format_price
from experiments.analytics_tables import TABLES, Table, add_shares
from experiments.models import Reason, Refusal, SearchSummary
from experiments.summaries import PERIODS
from retrieval.plots import Line, draw_lines

USUAL_PERIOD = 28


@dataclass(frozen=True)
class SearchesPage:
    """Searches of so many days up to today. `notice`: what was asked for and cannot be shown."""

    days: int
    with_simulated: bool
    content: dict[str, Any]
    made_at: datetime | None
    notice: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> SearchesPage:
        """Return the page of an address: `days`, and `simulated` 0 to leave simulated searches out."""
        given = asked.get("days", str(USUAL_PERIOD))
        known = {str(days): days for days in PERIODS}
        notice = f"There is no period of {given[:20]!r} days, choose one below." if given not in known else ""
        days, with_simulated = known.get(given, USUAL_PERIOD), asked.get("simulated") != "0"
        found = SearchSummary.objects.filter(days=days, with_simulated=with_simulated).first()
        return cls(days, with_simulated, found.content if found else {}, found.made_at if found else None, notice)

    @property
    def periods(self) -> tuple[int, ...]:
        return PERIODS

    @property
    def address(self) -> str:
        """The part of the page's address that asks for just this page."""
        return f"?days={self.days}" + ("" if self.with_simulated else "&simulated=0")

    @property
    def is_empty(self) -> bool:
        return not self.content.get("totals", {}).get("searches")

    @property
    def totals(self) -> list[tuple[str, str, str]]:
        """What is counted, how much of it, and how much it was in the period before."""
        now, before = self.content["totals"], self.content["before"]
        return [(label, show(now), show(before)) for label, show in TOTALS.items()]

    @cached_property
    def tables(self) -> list[Table]:
        return [self.find_table(key) for key in TABLES]

    def find_table(self, key: str) -> Table:
        """Return the table; raises KeyError for an unknown one."""
        plan = TABLES[key]
        rows = self._count_refused() if key == "refused" else self.content.get(key, [])
        newest_first = rows[::-1] if key == "days" else rows
        return Table(key, plan, [add_shares(row) for row in newest_first])

    def _count_refused(self) -> list[dict[str, Any]]:
        if not self.content:
            return []
        days = Refusal.objects.filter(day__range=(self.content["first_day"], self.content["last_day"]))
        found = days.order_by().values_list("reason").annotate(total=Sum("count")).order_by("-total", "reason")
        return [{"reason": reason, "meaning": Reason(reason).label, "count": total} for reason, total in found]

    @property
    def charts(self) -> list[SafeString]:
        return [] if self.is_empty else [self._draw_positions(), self._draw_latencies()]

    def _draw_positions(self) -> SafeString:
        rows = [add_shares(row) for row in self.content["positions"]]
        lines = [
            Line(name, [(row["position"], 100 * row[key]) for row in rows if row[key] is not None])
            for name, key in (("of shown", "click_share"), ("of seen", "seen_share"))
        ]
        described = (
            "Of the searches that showed a product at a position, or in which it was seen, those that clicked it."
        )
        return draw_lines(
            "Clicks by position", described, [line for line in lines if line.points], x_label="position", y_label="%",
            y_range=(0, 1),
        )  # fmt: skip

    def _draw_latencies(self) -> SafeString:
        last = date.fromisoformat(self.content["last_day"])
        lines = [
            Line(
                name,
                [
                    ((date.fromisoformat(row["day"]) - last).days, row[key])
                    for row in self.content["days"]
                    if row[key] is not None
                ],
            )
            for name, key in (("p50", "p50_ms"), ("p95", "p95_ms"))
        ]
        described = "How long a search took on each day: half of them less than p50, 95 % less than p95."
        return draw_lines("Latency by day", described, lines, x_label="days from today", y_label="ms", y_range=(0, 1))


def _share(name: str, totals: Mapping[str, int]) -> str:
    return f"{100 * totals[name] / totals['searches']:.1f} %" if totals["searches"] else "–"


TOTALS: dict[str, Callable[[Mapping[str, int]], str]] = {
    "searches": lambda totals: f"{totals['searches']:,}",
    "of them without a typed query": lambda totals: f"{totals['browsed']:,}",
    "visitors": lambda totals: f"{totals['visitors']:,}",
    "searches with a click": lambda totals: _share("clicked", totals),
    "searches without results": lambda totals: _share("zero", totals),
    "revenue through search": lambda totals: format_price(totals["revenue_cents"], settings.SEARCHSITE["CURRENCY"]),
}
