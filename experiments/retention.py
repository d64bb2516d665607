"""How long events are kept, and forgetting one visitor."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from experiments import spool
from experiments.intake import take_in_spool
from experiments.models import Event, Experiment, Refusal, SearchLog, StoredReport, TakenBatch, VisitorDay
from experiments.signals import visitor_erased
from experiments.turns import take_turn
from retrieval import past_queries

BATCH_SIZE = 5_000  # rows of one transaction: writers wait for none longer
BATCHES_KNOWN = timedelta(days=30)  # a spooled batch is long taken in by then
DRAFTS_KEPT = timedelta(hours=1)  # no writer takes so long


@dataclass(frozen=True, slots=True)
class Pruned:
    searches: int
    events: int

    @property
    def total(self) -> int:
        return self.searches + self.events


def prune(older_than: timedelta | None = None) -> Pruned:
    """Delete searches, events and counts that are older, by default than the shop keeps them; 0 days delete all.

    Past queries that nobody asked since, what the spool has set aside, and drafts, go too.
    """
    kept = timedelta(days=settings.SEARCHSITE["EVENT_RETENTION_DAYS"]) if older_than is None else older_than
    before = timezone.now() - kept
    TakenBatch.objects.filter(taken_at__lt=timezone.now() - BATCHES_KNOWN).delete()
    Refusal.objects.filter(day__lt=before.date()).delete()
    # What still runs needs all its days; its visitors' searches are gone from the log by then.
    ended = Experiment.objects.exclude(status=Experiment.Status.RUNNING)
    VisitorDay.objects.filter(experiment__in=ended, day__lt=before.date()).delete()
    past_queries.prune(before)
    spool.prune(before, timezone.now() - DRAFTS_KEPT)
    return Pruned(_delete(SearchLog.objects, before), _delete(Event.objects, before))


def _delete(rows: models.Manager[Any], before: datetime) -> int:
    deleted = 0
    while keys := list(rows.filter(timestamp__lt=before).values_list("pk", flat=True)[:BATCH_SIZE]):
        deleted += rows.filter(pk__in=keys).delete()[0]
    return deleted


def erase(client_id: str) -> dict[str, int]:
    """Delete all that is kept of a visitor, what still waits included, and return how many rows of what.

    Raises ValueError for no id: it would be everybody's of whom none is known.
    """
    if not client_id:
        raise ValueError("client_id '': expected the id of one visitor, as it stands in the cookie or was sent")
    take_in_spool()
    texts, set_aside = past_queries.forget_visitor(client_id), spool.forget(client_id)
    with transaction.atomic():
        take_turn()
        reports = _strip_reports(_find_own_texts(client_id))
        searches, _ = SearchLog.objects.filter(client_id=client_id).delete()
        events, _ = Event.objects.filter(client_id=client_id).delete()
        days, _ = VisitorDay.objects.filter(client_id=client_id).delete()
        counts = {"searches": searches, "events": events, "days in experiments": days}
        counts |= {"past queries": texts, "rows set aside": set_aside, "reports": reports}
        answers: list[Any] = visitor_erased.send(Event, client_id=client_id)
        for _, others in answers:
            counts |= others
    return counts


def _find_own_texts(client_id: str) -> set[str]:
    """Return what this visitor searched for and, as far as the log knows, nobody else."""
    others = SearchLog.objects.filter(text=models.OuterRef("text")).exclude(client_id=client_id)
    mine = SearchLog.objects.filter(client_id=client_id).exclude(text="")
    return set(mine.exclude(models.Exists(others)).values_list("text", flat=True))


def _strip_reports(texts: Container[str]) -> int:
    """Take these texts out of the queries that reports show, those of stopped experiments too; return of how many.

    Their figures stay: they name nobody, and what they were made from may be gone.
    """
    stripped = 0
    for report in StoredReport.objects.all():
        queries = report.content.get("queries", {})
        kept = {
            variant: {name: [one for one in gains if one["text"] not in texts] for name, gains in found.items()}
            for variant, found in queries.items()
        }
        if kept != queries:
            report.content["queries"] = kept
            report.save(update_fields=["content"])
            stripped += 1
    return stripped
