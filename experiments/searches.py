"""Searches of the event log with what was done with their products, for sums by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

from django.conf import settings

from experiments.models import Event, SearchLog

BATCH = 500  # searches whose events are fetched together
CLICKS = ("click", "click_through")
PLAIN = {"teams", "verbatim"}  # of a search's attributes: with others its page was filtered, sorted or a later one
COLUMNS = (
    "query_id", "client_id", "text", "timestamp", "total", "latency_ms", "hit_skus", "query_attributes", "is_simulated",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Search:
    """A search of the log; `shown`: products on its first page, 0 where that was filtered or sorted anew."""

    query_id: str
    client_id: str
    text: str
    at_s: float
    is_zero: bool
    latency_ms: float | None
    shown: int
    is_simulated: bool


@dataclass(slots=True)
class Deeds:
    """What was done with one search's products, by position where its page was neither filtered nor sorted anew."""

    is_clicked: bool = False
    is_used: bool = False  # clicked, added or bought: no half-typed word
    revenue_cents: int = 0
    clicked: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)


def read_with_deeds(day: date) -> Iterator[tuple[Search, Deeds]]:
    """Yield the day's searches with what came of them, each visitor's together and in the order of time."""
    searches = read_searches(day)
    while batch := list(islice(searches, BATCH)):
        deeds = read_deeds([search.query_id for search in batch])
        yield from ((search, deeds.get(search.query_id, Deeds())) for search in batch)


def read_searches(day: date) -> Iterator[Search]:
    """Yield the day's searches, each visitor's together and in the order of time; bots are left out."""
    start = datetime.combine(day, time(), UTC)
    rows = SearchLog.objects.between(start, start + timedelta(days=1)).filter(is_bot=False)
    for row in rows.order_by("client_id", "timestamp", "query_id").values(*COLUMNS).iterator():
        yield _to_search(**row)


def _to_search(timestamp: datetime, total: int | None, hit_skus: Any, query_attributes: Any, **facts: Any) -> Search:
    is_plain = isinstance(query_attributes, dict) and query_attributes.keys() <= PLAIN
    shown = len(hit_skus) if is_plain and isinstance(hit_skus, list) else 0
    return Search(at_s=timestamp.timestamp(), is_zero=total == 0, shown=shown, **facts)


def read_deeds(query_ids: Iterable[str]) -> dict[str, Deeds]:
    """Return what was done with the products of each search, where anything was; revenue is the shop's currency's."""
    found: dict[str, Deeds] = defaultdict(Deeds)
    columns = ("query_id", "action_name", "position", "value_cents", "currency", "event_attributes")
    own = ("", settings.SEARCHSITE["CURRENCY"])
    events = Event.objects.filter(query_id__in=list(query_ids)).values_list(*columns)
    for query_id, action, position, cents, currency, attributes in events:
        _add_deed(found[str(query_id)], action, position, cents if currency in own else 0, attributes)
    return found


def _add_deed(deeds: Deeds, action: str, position: int | None, cents: int, attributes: Any) -> None:
    deeds.is_clicked |= action in CLICKS
    deeds.is_used |= action != "impression"
    deeds.revenue_cents += cents if action == "purchase" else 0
    if position and not (isinstance(attributes, dict) and attributes.get("is_narrowed")):
        if action in CLICKS:
            deeds.clicked.add(position)
        elif action == "impression":
            deeds.seen.add(position)
