"""Experiments, searches and events for tests, written straight to the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from experiments.models import Event, Experiment, SearchLog, Variant

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
_numbers = count(1)


def make_experiment(name: str = "ranking", *variants: str, running: bool = True, **facts: Any) -> Experiment:
    """Return an experiment begun on a Monday; the first variant, 'a' unless named, is the champion."""
    status = Experiment.Status.RUNNING if running else Experiment.Status.DRAFT
    experiment = Experiment.objects.create(
        name=name, status=status, started_at=MONDAY - timedelta(hours=12) if running else None, **facts
    )
    for number, variant in enumerate(variants or ("a", "b")):
        changes = {} if number == 0 else {"dense_weight": 0.1 * number}
        Variant.objects.create(experiment=experiment, name=variant, is_champion=number == 0, changes=changes)
    return experiment


def log_search(client_id: str, variant: str = "ranking:a", *, day: int = 0, **facts: Any) -> SearchLog:
    """Return a search so many days after Monday, with 3 products found."""
    number = next(_numbers)
    facts = {"total": 3, "latency_ms": 10.0, "text": f"{number} mugs", "user_query": f"{number} mugs"} | facts
    return SearchLog.objects.create(
        query_id=f"q{number}",
        client_id=client_id,
        variant=variant,
        timestamp=MONDAY + timedelta(days=day),
        **facts,
    )


def log_event(search: SearchLog, action: str, sku: str = "P1", position: int | None = 1, **facts: Any) -> Event:
    return Event.objects.create(
        event_id=f"e{next(_numbers)}",
        action_name=action,
        query_id=search.query_id,
        client_id=search.client_id,
        object_id=sku,
        position=position,
        timestamp=search.timestamp,
        **facts,
    )
