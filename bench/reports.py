"""How long do a million events take to become a report, and how long does its page take?"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import numpy as np

from bench.report import Claim, run

DAYS, SEARCHES_A_VISITOR, EVENTS_A_SEARCH = 14, 2.5, 4
PAGES = 50
BATCH = 20_000


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        start_django(Path(folder))
        experiment = fill(arguments.events)
        yield from measure_reports(experiment)
        yield from measure_page(experiment)


def start_django(folder: Path) -> None:
    """Set up an empty site on SQLite, or on the database that DATABASE_URL names, which must be empty too."""
    os.environ |= {"SEARCHSITE_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "searchsite.settings"}
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def fill(events: int) -> Any:
    """Return an experiment with about so many events of visitors, two weeks of them."""
    from django.utils import timezone

    from experiments.models import Event, Experiment, SearchLog, Variant

    now = timezone.now()
    experiment = Experiment.objects.create(
        name="ranking", status="running", started_at=now - timedelta(days=DAYS), salt="bench"
    )
    Variant.objects.create(experiment=experiment, name="own", is_champion=True)
    Variant.objects.create(experiment=experiment, name="other", changes={"dense_weight": 0.5})
    rng = random.Random(1)
    for start in range(0, events // EVENTS_A_SEARCH, BATCH):
        searches = [make_search(rng, number, now) for number in range(start, start + BATCH)]
        SearchLog.objects.bulk_create(SearchLog(**search) for search in searches)
        Event.objects.bulk_create(Event(**event) for search in searches for event in make_events(rng, search))
    return experiment


def make_search(rng: random.Random, number: int, now: Any) -> dict[str, Any]:
    visitor = int(number / SEARCHES_A_VISITOR)
    return {
        "query_id": f"q{number}",
        "client_id": f"visitor-{visitor}",
        "text": f"{rng.randrange(2000)} mugs",
        "variant": f"ranking:{'own' if visitor % 2 else 'other'}",
        "timestamp": now - timedelta(seconds=rng.random() * DAYS * 86_000),
        "total": rng.choice((0, 40, 400)),
        "latency_ms": 12.0,
        "received_at": now - timedelta(hours=1),
        "hit_skus": [f"P{rng.randrange(5000)}" for _ in range(10)],
    }


def make_events(rng: random.Random, search: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for position, action in enumerate(rng.choices(("impression", "click", "add_to_cart", "purchase"), k=4), 1):
        yield {
            "event_id": f"{search['query_id']}-{position}",
            "action_name": action,
            "query_id": search["query_id"],
            "client_id": search["client_id"],
            "object_id": f"P{position}",
            "position": position,
            "timestamp": search["timestamp"],
            "received_at": search["received_at"],
            "value_cents": 1000 if action == "purchase" else 0,
        }


def measure_reports(experiment: Any) -> Iterator[Claim]:
    from experiments.models import Event, VisitorDay
    from experiments.reports import refresh

    yield Claim("events", Event.objects.count())
    with timed() as all_s:
        refresh(experiment)
    yield Claim("visitors' days", VisitorDay.objects.count())
    yield Claim("all days summed up and reported", all_s[0], "s")
    with timed() as again_s:
        refresh(experiment)
    yield Claim("reported again, nothing new", again_s[0], "s")


def measure_page(experiment: Any) -> Iterator[Claim]:
    from django.contrib.auth.models import User
    from django.test import Client

    browser = Client(SERVER_NAME="localhost")
    browser.force_login(User.objects.create_superuser("bench"))
    browser.get(f"/reports/{experiment.name}/")
    took = []
    for _ in range(PAGES):
        with timed() as page_s:
            assert browser.get(f"/reports/{experiment.name}/").status_code == 200
        took.append(page_s[0] * 1000)
    yield Claim("report page, p50", float(np.quantile(took, 0.5)), "ms")
    yield Claim("report page, p95", float(np.quantile(took, 0.95)), "ms", "<= 1000")


@contextmanager
def timed() -> Iterator[list[float]]:
    """Give a list that holds the seconds of the block when it has ended."""
    found: list[float] = []
    start = time.perf_counter()
    yield found
    found.append(time.perf_counter() - start)


if __name__ == "__main__":
    run(__doc__, measure, events={"type": int, "default": 1_000_000, "help": "events to make (default: 1,000,000)"})
