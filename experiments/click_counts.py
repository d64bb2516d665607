"""What the event log has of results shown and clicked, summed by text, product and position: the click models' food."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from django.db.models import Count, Max
from django.db.models.functions import TruncDate

from experiments.clicks.log import ClickLog
from experiments.models import Event
from experiments.models.events import SearchQuerySet
from experiments.stats.outliers import MANY_CLICKS, MOST_CLICKS
from retrieval.engine.types import Filters

TEXTS, SEARCHES = 500, 2_000  # fetched together
MOST_SEARCHES_A_DAY = 100  # who searches more often is a program: fixed before the look, whatever they clicked
LONGEST_SKU = 100
CLICKS = ("click", "click_through")
COLUMNS = ("query_id", "client_id", "text", "timestamp", "hit_skus", "query_attributes", "is_simulated")
# What makes a list another than the query's own.
NARROWING = frozenset((*Filters.__slots__, "filters", "sort", "page"))
EARLIEST, LATEST = (end.replace(tzinfo=UTC) for end in (datetime.min, datetime.max))

Row = Mapping[str, Any]
Item = TypeVar("Item")
Shown = tuple[str, ...]
Progress = Callable[[int, int], None]


@dataclass
class ClickCounts:
    """Sums over distinct (text, SKU, position), columns of the same length; codes point into `texts` and `skus`.

    `simulated` counts the searches that were, `programs` visitors left out as none.
    """

    texts: dict[str, int] = field(default_factory=dict)
    skus: dict[str, int] = field(default_factory=dict)
    columns: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("q") for _ in range(5)))
    searches: int = 0
    simulated: int = 0
    programs: int = 0
    first: datetime = LATEST
    last: datetime = EARLIEST

    def to_log(self) -> ClickLog:
        """Return the sums as a log; raises ValueError without any."""
        return ClickLog(*(np.frombuffer(column, np.int64) for column in self.columns))

    def note(self, timestamp: datetime, is_simulated: bool) -> None:
        self.searches += 1
        self.simulated += is_simulated
        self.first = min(self.first, timestamp)
        self.last = max(self.last, timestamp)

    def add(self, lists: Mapping[tuple[str, Shown], int], clicks: Mapping[tuple[str, str, int], int]) -> None:
        """Add how often each list was shown, and each product at its position clicked; no text comes twice."""
        impressions: Counter[tuple[str, str, int]] = Counter()
        for (text, shown), count in lists.items():
            for position, sku in enumerate(shown, 1):
                if 0 < len(sku) <= LONGEST_SKU:
                    impressions[text, sku, position] += count
        for (text, sku, position), count in impressions.items():
            row = (*self._code(text, sku), position, clicks.get((text, sku, position), 0), count)
            for column, value in zip(self.columns, row, strict=True):
                column.append(value)

    def _code(self, text: str, sku: str) -> tuple[int, int]:
        return self.texts.setdefault(text, len(self.texts)), self.skus.setdefault(sku, len(self.skus))


def count_clicks(searches: SearchQuerySet, least: float, on_progress: Progress | None = None) -> ClickCounts:
    """Return the sums over those of the searches that show the query's own list: no bots, nothing filtered or sorted.

    What is shown is the first page, cut after the last product that a browser told to have come into view, if any did.
    Texts searched fewer than `least` times are left out: a product is shown once a search. `on_progress` is told how
    many searches are read, of how many.
    """
    searches = searches.filter(is_bot=False).exclude(text="").order_by()
    programs = find_programs(searches)
    asked = searches.values_list("text").annotate(Count("pk")).filter(pk__count__gte=least)
    texts = dict(asked.order_by("text"))
    found, done, total = ClickCounts(programs=len(programs)), 0, sum(texts.values())
    for part in in_batches(texts, TEXTS):  # all of one text at a time: few sums are in memory, however many searches
        lists: Counter[tuple[str, Shown]] = Counter()
        clicks: Counter[tuple[str, str, int]] = Counter()
        rows = searches.filter(text__in=part).values(*COLUMNS).iterator(chunk_size=SEARCHES)
        for batch in in_batches(rows, SEARCHES):
            _count_batch(found, [row for row in batch if row["client_id"] not in programs], lists, clicks)
            done += len(batch)
            if on_progress:
                on_progress(done, total)
        found.add(lists, clicks)
    return found


def _count_batch(
    found: ClickCounts,
    rows: Iterable[Row],
    lists: Counter[tuple[str, Shown]],
    clicks: Counter[tuple[str, str, int]],
) -> None:
    for row, shown, clicked in read_pages([row for row in rows if is_whole(row)]):
        found.note(row["timestamp"], row["is_simulated"])
        lists[row["text"], shown] += 1
        clicks.update((row["text"], sku, position) for sku, position in clicked)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def find_programs(searches: SearchQuerySet) -> set[str]:
    """Return the visitors who searched more often on one day (UTC), or clicked more results, than any shopper does."""
    known = searches.exclude(client_id="").order_by()
    days = known.annotate(day=TruncDate("timestamp", tzinfo=UTC)).values("client_id", "day")
    often = days.annotate(count=Count("pk")).filter(count__gt=MOST_SEARCHES_A_DAY)
    return {*often.values_list("client_id", flat=True), *_find_greedy(known)}


def _find_greedy(searches: SearchQuerySet) -> Iterator[str]:
    """Yield the visitors who click so many results of each search that they choose none."""
    events = Event.objects.filter(action_name__in=CLICKS, query_id__in=searches.values("query_id"))
    clicks = dict(events.order_by().values_list("client_id").annotate(Count("pk")).filter(pk__count__gt=MANY_CLICKS))
    for part in in_batches(clicks, TEXTS):
        asked = searches.filter(client_id__in=part).values_list("client_id").annotate(Count("pk"))
        yield from (client_id for client_id, count in asked if clicks[client_id] > MOST_CLICKS * count)


def is_whole(row: Row) -> bool:
    """Return whether the search showed the query's own list."""
    attributes = row["query_attributes"]
    return bool(row["hit_skus"]) and not (isinstance(attributes, dict) and NARROWING.intersection(attributes))


def read_pages(rows: Sequence[Row]) -> Iterator[tuple[Row, Shown, list[tuple[str, int]]]]:
    """Yield each search with the products shown and those clicked, by SKU and position, each once."""
    query_ids = [row["query_id"] for row in rows]
    clicked, seen = read_clicked(query_ids), read_seen(query_ids)
    for row in rows:
        skus, query_id = row["hit_skus"], row["query_id"]
        places = sorted(skus.index(sku) for sku in clicked.get(query_id, ()) if sku in skus)
        end = max(seen[query_id], places[-1] + 1 if places else 0) if query_id in seen else len(skus)
        yield row, tuple(skus[:end]), [(skus[place], place + 1) for place in places]


def read_clicked(query_ids: Iterable[str]) -> dict[str, set[str]]:
    """Return the SKUs clicked in each search's own list."""
    found: dict[str, set[str]] = {}
    events = Event.objects.filter(query_id__in=query_ids, action_name__in=CLICKS)
    for query_id, sku in _of_whole_lists(events).values_list("query_id", "object_id"):
        found.setdefault(query_id, set()).add(sku)
    return found


def read_seen(query_ids: Iterable[str]) -> dict[str, int]:
    """Return the last position that a browser told to have come into view, of searches where one did."""
    events = Event.objects.filter(query_id__in=query_ids, action_name="impression", position__gte=1)
    return dict(_of_whole_lists(events).order_by().values_list("query_id").annotate(Max("position")))


def _of_whole_lists(events: Any) -> Any:
    return events.filter(event_attributes__is_narrowed__isnull=True)
