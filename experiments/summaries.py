"""What the page about searches shows, made from sums by day: totals, lists of queries, positions, latencies."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from experiments.latencies import find_percentile
from experiments.models import PositionDay, QueryDay, SearchDay, SearcherDay, SearchSummary
from experiments.turns import take_turn

PERIODS = (7, 28, 90)  # days up to today
MOST_QUERIES = 100  # of each list
LEAST_VISITORS = 3  # of a rising query
LEAST_RISE = 2.0  # standard deviations
COUNTED = ("searches", "visitors", "clicked", "zero", "revenue_cents")


@dataclass(frozen=True, slots=True)
class QueryCounts:
    """One text's counts over a period. `visitors`: each counts once a day; `before`: those of the period before."""

    text: str
    searches: int
    visitors: int
    clicked: int
    zero: int
    revenue_cents: int
    before: int = 0
    rise: float = 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """Days from the first to the last, both included, with or without simulated searches."""

    first: date
    last: date
    with_simulated: bool = True

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def before(self) -> Period:
        """The period of the same length that ends where this one begins."""
        return Period(self.first - timedelta(self.days), self.first - timedelta(1), with_simulated=self.with_simulated)


def write_summaries(summed_to: datetime) -> None:
    """Make the summaries of every period up to today anew."""
    now = timezone.now()
    today = now.astimezone(UTC).date()
    for days in PERIODS:
        for with_simulated in (True, False):
            period = Period(today - timedelta(days - 1), today, with_simulated)
            with transaction.atomic():
                take_turn()  # or who is erased meanwhile would come back with what they typed
                values = {"content": summarise(period), "summed_to": summed_to, "made_at": now}
                SearchSummary.objects.update_or_create(days=days, with_simulated=with_simulated, defaults=values)


def summarise(period: Period) -> dict[str, Any]:
    """Return what was searched in the period, as JSON holds it."""
    queries = list_queries(period)
    rows = [row for row in queries if row.searches]
    return {
        "first_day": period.first.isoformat(),
        "last_day": period.last.isoformat(),
        "totals": sum_totals(period),
        "before": sum_totals(period.before),
        "simulated": SearchDay.objects.between(period.first, period.last).filter(is_simulated=True).exists(),
        "top": _list(rows, lambda row: row.searches),
        "rising": _list(rows, lambda row: row.rise if row.rise >= LEAST_RISE else 0),
        "zero": _list(rows, lambda row: row.zero),
        "no_click": _list(rows, lambda row: row.searches - row.zero if not row.clicked else 0),
        "positions": list_positions(period),
        "days": list_days(period),
    }


def _list(rows: Iterable[QueryCounts], key: Callable[[QueryCounts], float]) -> list[dict[str, Any]]:
    """Return the rows with the highest keys, those above 0 alone; the same order every time."""
    wanted = heapq.nsmallest(MOST_QUERIES, (row for row in rows if key(row) > 0), key=lambda row: (-key(row), row.text))
    return [asdict(row) for row in wanted]


def sum_totals(period: Period) -> dict[str, int]:
    """Return counts over the whole period; a visitor of many days counts once."""
    names = ("searches", "browsed", "clicked", "zero", "revenue_cents")
    days = SearchDay.objects.between(period.first, period.last, with_simulated=period.with_simulated)
    searchers = SearcherDay.objects.between(period.first, period.last, with_simulated=period.with_simulated)
    totals = days.aggregate(**{name: Sum(name, default=0) for name in names})
    return totals | {"visitors": searchers.order_by().values("client_id").distinct().count()}


def list_queries(period: Period) -> list[QueryCounts]:
    """Return the counts of every text searched in the period, or in the one before."""
    rows = QueryDay.objects.between(period.before.first, period.last, with_simulated=period.with_simulated)
    now = Q(day__gte=period.first)
    sums = {f"{name}_sum": Sum(name, filter=now, default=0) for name in COUNTED}
    found = rows.order_by().values("text").annotate(**sums, before=Sum("visitors", filter=~now, default=0))
    counted = [QueryCounts(*row) for row in found.values_list("text", *sums, "before")]
    return rate_rises(counted)


def rate_rises(rows: list[QueryCounts]) -> list[QueryCounts]:
    """Return the rows with how surely each rose against the period before, 0 where that had no visitors at all."""
    now, before = sum(row.visitors for row in rows), sum(row.before for row in rows)
    if not before:
        return rows
    return [
        QueryCounts(**asdict(row) | {"rise": find_rise(row.visitors, row.before, now / before)})
        if row.visitors >= LEAST_VISITORS
        else row
        for row in rows
    ]


def find_rise(now: int, before: int, growth: float) -> float:
    """Return by how many standard deviations a count rose beyond what all of them did.

    Two Poisson counts, `growth` the ratio of their exposures, made of even variance by the square root: Huffman 1984,
    Gu et al. 2008. One visitor more than none is 0.8; four are 2.1; 200 after 100 are 5.8.
    """
    return 2 * (math.sqrt(now + 0.375) - math.sqrt(growth * (before + 0.375))) / math.sqrt(1 + growth)


def list_positions(period: Period) -> list[dict[str, int]]:
    """Return by position, from 1, in how many searches a product was shown, clicked, seen, and both."""
    names = ("shown", "clicked", "seen", "seen_clicked")
    rows = PositionDay.objects.between(period.first, period.last, with_simulated=period.with_simulated)
    summed = rows.order_by("position").values("position").annotate(**{f"{name}_sum": Sum(name) for name in names})
    return [
        dict(zip(("position", *names), row, strict=True))
        for row in summed.values_list("position", *(f"{name}_sum" for name in names))
    ]


def list_days(period: Period) -> list[dict[str, Any]]:
    """Return the searches of each day that had some, with p50 and p95 of their latency in ms, None where unknown."""
    searches: Counter[date] = Counter()
    latencies: dict[date, Counter[int]] = {}
    rows = SearchDay.objects.between(period.first, period.last, with_simulated=period.with_simulated).order_by("day")
    for day, count, steps in rows.values_list("day", "searches", "latencies"):
        searches[day] += count
        latencies.setdefault(day, Counter()).update({int(step): number for step, number in steps.items()})
    return [
        {
            "day": day.isoformat(),
            "searches": count,
            "p50_ms": find_percentile(latencies[day], 0.5),
            "p95_ms": find_percentile(latencies[day], 0.95),
        }
        for day, count in searches.items()
    ]
