"""What the event log has of simulated shoppers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import Count, OuterRef, Subquery, Sum

from experiments.models import Experiment, SearchLog
from experiments.models.events import EventQuerySet, SearchQuerySet
from experiments.rollups import find_variant


@dataclass(slots=True)
class Counts:
    """What some visitors did."""

    visitors: int = 0
    searches: int = 0
    clicks: int = 0
    adds: int = 0
    purchases: int = 0
    revenue_cents: int = 0

    def add_events(self, action: str, count: int, cents: int) -> None:
        if action == "click":
            self.clicks += count
        elif action == "add_to_cart":
            self.adds += count
        elif action == "purchase":
            self.purchases += count
            self.revenue_cents += cents


@dataclass(frozen=True, slots=True)
class Simulated:
    """What was simulated, and what of it each variant of the running experiments had, by experiment and variant."""

    total: Counts
    variants: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def count_searches_and_events(searches: SearchQuerySet, events: EventQuerySet) -> Simulated:
    """Return the counts of these searches and of what came of them."""
    names = [experiment.name for experiment in Experiment.objects.running()]
    total, found = Counts(), {name: defaultdict[str, Counts](Counts) for name in names}
    seen: dict[int, set[str]] = defaultdict(set)
    rows = searches.order_by().values_list("client_id", "variant").annotate(Count("pk"))
    for client_id, label, count in rows.iterator():
        for counts in _find_counts(label, total, found):
            counts.searches += count
            seen[id(counts)].add(client_id)
    for label, action, count, cents in _sum_events(events):
        for counts in _find_counts(label, total, found):
            counts.add_events(action, count, cents)
    for counts in _find_all(total, found):
        counts.visitors = len(seen[id(counts)])
    return Simulated(total, {name: dict(sorted(each.items())) for name, each in found.items()})


def _find_counts(label: str, total: Counts, found: Mapping[str, defaultdict[str, Counts]]) -> Sequence[Counts]:
    """Return what a search with this label counts for: all of them, and its variant of each experiment."""
    variants = ((name, find_variant(label, name)) for name in found)
    return [total, *(found[name][variant] for name, variant in variants if variant)]


def _find_all(total: Counts, found: Mapping[str, Mapping[str, Counts]]) -> Iterator[Counts]:
    yield total
    for variants in found.values():
        yield from variants.values()


def _sum_events(events: EventQuerySet) -> Iterator[tuple[str, str, int, int]]:
    """Yield label, action, number and value of the events, by the label of the search they came of."""
    label = Subquery(SearchLog.objects.filter(pk=OuterRef("query_id")).values("variant")[:1])
    rows = events.annotate(label=label).order_by().values_list("label", "action_name")
    for name, action, count, cents in rows.annotate(Count("pk"), Sum("value_cents")).iterator():
        yield name or "", action, count, cents
