"""From the event log to searches by day, query and position, again for each day that something came for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import models, transaction
from django.db.models.functions import TruncDate
from django.dispatch import receiver
from django.utils import timezone

from experiments.keystrokes import TypedSearch, collapse_keystrokes
from experiments.latencies import find_step
from experiments.models import Event, PositionDay, QueryDay, SearchDay, SearcherDay, SearchLog, SearchSummary
from experiments.revenue import add_cents
from experiments.searches import Deeds, Search, read_with_deeds
from experiments.signals import visitor_erased
from experiments.summaries import write_summaries
from experiments.turns import take_turn

OVERLAP = timedelta(minutes=1)  # rows written by a transaction that began before others ended
DEEPEST = 100  # positions of a first page
LOCK, LOCK_S = "experiments.summing-searches", 1800


@dataclass(slots=True)
class Counts:
    """Of a day, or of one text of a day."""

    searches: int = 0
    clicked: int = 0
    zero: int = 0
    revenue_cents: int = 0

    def add(self, search: Search, deeds: Deeds) -> None:
        self.searches += 1
        self.clicked += deeds.is_clicked
        self.zero += search.is_zero
        self.revenue_cents = add_cents(self.revenue_cents, deeds.revenue_cents)


@dataclass(slots=True)
class PositionCounts:
    """Of one position; the fields are PositionDay's."""

    shown: int = 0
    clicked: int = 0
    seen: int = 0
    seen_clicked: int = 0


@dataclass(slots=True)
class DaySums:
    """A day as it is added up, of real searches or of simulated ones."""

    counts: Counts = field(default_factory=Counts)
    browsed: int = 0
    searchers: set[str] = field(default_factory=set)
    queries: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    query_visitors: Counter[str] = field(default_factory=Counter)
    positions: dict[int, PositionCounts] = field(default_factory=lambda: defaultdict(PositionCounts))
    latencies: Counter[int] = field(default_factory=Counter)

    def add(self, search: Search, deeds: Deeds) -> None:
        self.counts.add(search, deeds)
        self.browsed += not search.text
        self.searchers.add(search.client_id)
        if search.text:
            self.queries[search.text].add(search, deeds)
        for position in range(1, min(search.shown, DEEPEST) + 1):
            self._add_position(self.positions[position], position in deeds.clicked, position in deeds.seen)

    def _add_position(self, counts: PositionCounts, is_clicked: bool, is_seen: bool) -> None:
        counts.shown += 1
        counts.clicked += is_clicked
        counts.seen += is_seen
        counts.seen_clicked += is_clicked and is_seen


def refresh() -> int:
    """Sum up the days for which something came since the last time, make the summaries anew, and return how many.

    Where another process is at it, it is left to that one.
    """
    if not cache.add(LOCK, 1, LOCK_S):
        return 0
    try:
        now = timezone.now()
        oldest = find_oldest(now)
        days = [day for day in find_stale_days(find_summed_to()) if day >= oldest]
        for day in days:
            sum_up(day)
        for table in (SearchDay, SearcherDay, QueryDay, PositionDay):
            table.objects.filter(day__lt=oldest).delete()
        write_summaries(now - OVERLAP)
        return len(days)
    finally:
        cache.delete(LOCK)


def find_oldest(now: datetime) -> date:
    """Return the first day (UTC) of which all events are kept."""
    return (now - timedelta(days=settings.SEARCHSITE["EVENT_RETENTION_DAYS"])).astimezone(UTC).date() + timedelta(1)


def find_summed_to() -> datetime | None:
    """Return up to when what was received is counted, None before the first time."""
    found: datetime | None = SearchSummary.objects.aggregate(last=models.Min("summed_to"))["last"]
    return found


def find_stale_days(since: datetime | None) -> list[date]:
    """Return the days (UTC) whose searches, or what was done with them, came since then; all days for None."""
    searches = SearchLog.objects.annotate(day=TruncDate("timestamp", tzinfo=UTC)).order_by().values_list("day")
    if since is None:
        return sorted(day for (day,) in searches.distinct())
    touched = Event.objects.filter(received_at__gte=since, query_id__isnull=False).values("query_id")
    came, done = searches.filter(received_at__gte=since), searches.filter(query_id__in=touched)
    return sorted({day for found in (came, done) for (day,) in found.distinct()})


@transaction.atomic
def sum_up(day: date) -> None:
    """Put a day's sums in place of what was there."""
    take_turn()
    sums = sum_day(day)
    SearchDay.objects.replace_day(day, (_to_day(day, flag, one) for flag, one in sums.items()))
    SearcherDay.objects.replace_day(
        day,
        (SearcherDay(day=day, is_simulated=flag, client_id=who) for flag, one in sums.items() for who in one.searchers),
    )
    QueryDay.objects.replace_day(
        day,
        (
            QueryDay(day=day, is_simulated=flag, text=text, visitors=one.query_visitors[text], **asdict(counts))
            for flag, one in sums.items()
            for text, counts in one.queries.items()
        ),
    )
    PositionDay.objects.replace_day(
        day,
        (
            PositionDay(day=day, is_simulated=flag, position=position, **asdict(counts))
            for flag, one in sums.items()
            for position, counts in one.positions.items()
        ),
    )


def _to_day(day: date, is_simulated: bool, sums: DaySums) -> SearchDay:
    latencies = {str(step): count for step, count in sorted(sums.latencies.items())}
    return SearchDay(
        day=day, is_simulated=is_simulated, browsed=sums.browsed, latencies=latencies, **asdict(sums.counts)
    )


def sum_day(day: date) -> dict[bool, DaySums]:
    """Return the sums of a day's searches, simulated ones under True; searches that were typing only in latencies."""
    found: dict[bool, DaySums] = defaultdict(DaySums)
    for _, pairs in groupby(read_with_deeds(day), key=lambda pair: pair[0].client_id or pair[0].query_id):
        visitor, texts = list(pairs), set()
        typing = find_typing(visitor)
        for search, deeds in visitor:
            sums = found[search.is_simulated]
            if search.latency_ms is not None:
                sums.latencies[find_step(search.latency_ms)] += 1
            if search.query_id not in typing:
                sums.add(search, deeds)
                texts.add((search.is_simulated, search.text))
        for is_simulated, text in texts:
            found[is_simulated].query_visitors[text] += 1
    return dict(found)


def find_typing(searches: Sequence[tuple[Search, Deeds]]) -> Mapping[str, str]:
    """Return which of one visitor's searches became another one while they were typed."""
    return collapse_keystrokes(
        [TypedSearch(search.query_id, search.text, search.at_s, deeds.is_used) for search, deeds in searches]
    )


@receiver(visitor_erased)
def forget_searcher(client_id: str, **kwargs: Any) -> dict[str, int]:
    """Sum up without an erased visitor the days of their searches, and return how many."""
    days = sorted(SearcherDay.objects.filter(client_id=client_id).values_list("day", flat=True).distinct())
    for day in days:
        sum_up(day)
    if days:
        renew_summaries()
    return {"search days": len(days)}


def renew_summaries() -> None:
    """Make the summaries anew from the days as they stand; where none was made yet, none is."""
    if summed_to := find_summed_to():
        write_summaries(summed_to)
