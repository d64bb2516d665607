"""Whether the site can do its work, told in a way that is cheap to ask and gives nothing away."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from experiments import spool
from retrieval.engine.exported import ModelCard
from retrieval.engine.index import Manifest
from retrieval.engine.types import EngineError
from retrieval.generations import get_store, recipe_version
from retrieval.live import CROSS_ENCODER, MODELS_DIR, NOTHING, TWO_TOWER, find_live
from retrieval.models import PendingChange
from searchsite.celery import app

QUEUE_PATIENCE = timedelta(minutes=5)  # a change that waits longer has no worker
BROKER_TIMEOUT_S = 1
BROKER_CHECK_INTERVAL_S = 5

logger = logging.getLogger(__name__)


@dataclass
class Report:
    """What was found, part by part, and what is wrong with it in words."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    is_down: bool = False

    @property
    def status(self) -> str:
        return "down" if self.is_down else "degraded" if self.problems else "ok"


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Return 200 while searches can be answered, if only from the database, and 503 when not."""
    report = examine()
    answer = {"status": report.status, **report.parts, "problems": report.problems}
    return JsonResponse(answer, status=503 if report.is_down else 200)


def examine() -> Report:
    """Return the state of database, queue, model and index. Loads neither."""
    report = Report()
    try:
        _examine_queue(report)
        report.parts["database"] = {"ok": True}
    except AnyDatabaseError:
        logger.exception("the database does not answer")
        report.parts["database"] = {"ok": False}
        report.problems.append("The database does not answer, or lacks its tables: run manage.py migrate.")
        report.is_down = True
    _examine_events(report)
    _examine_index(report, _examine_model(report))
    _examine_reranker(report)
    return report


def _examine_queue(report: Report) -> None:
    first = PendingChange.objects.order_by("pk").first()
    age = timezone.now() - first.queued_at if first else timedelta()
    pending = len(PendingChange.objects.all().product_ids()) if first else 0
    is_reachable = _reaches_broker(int(time.monotonic() // BROKER_CHECK_INTERVAL_S))
    report.parts["queue"] = {
        "pending": pending,
        "oldest_age_s": round(age.total_seconds(), 1),
        "broker_reachable": is_reachable,
    }
    if not is_reachable:
        report.problems.append("The queue does not answer: changes wait for the worker's clock.")
    if age > QUEUE_PATIENCE:
        report.problems.append("Changes wait for more than 5 minutes: is a worker running?")


def _examine_events(report: Report) -> None:
    """Tell how many batches of events wait on disk for the database; what the last second brought is not there yet."""
    waiting = spool.list_waiting()
    age_s = time.time() - spool.find_time_ns(waiting[0]) / 1e9 if waiting else 0.0
    set_aside = spool.count_set_aside()
    report.parts["events"] = {"waiting": len(waiting), "oldest_age_s": round(age_s, 1), "set_aside": set_aside}
    if set_aside:
        report.problems.append(f"{set_aside} batches of events cannot be written and lie in spool/events: see the log.")
    if age_s > QUEUE_PATIENCE.total_seconds():
        report.problems.append(
            f"{len(waiting)} batches of events wait, some for more than 5 minutes; nothing is lost. "
            "Once the database answers, a worker takes them in, or: manage.py write_events."
        )


def _examine_model(report: Report) -> str:
    """Return the version of the site's model, empty when it is not there."""
    try:
        card = ModelCard.read(MODELS_DIR / find_live(TWO_TOWER).version)
    except EngineError as error:
        logger.warning("%s", error)
        report.problems.append("The model was not made ready: run manage.py reindex.")
        report.parts["model"] = {"version": None}
        return ""
    report.parts["model"] = {"version": card.version}
    return card.version


def _examine_reranker(report: Report) -> None:
    try:
        reranker = find_live(CROSS_ENCODER)
        if reranker != NOTHING:
            ModelCard.read(MODELS_DIR / reranker.version)
    except EngineError as error:
        logger.warning("%s", error)
        report.problems.append("The reranker was not made ready, searches go without: run manage.py reindex.")


def _examine_index(report: Report, model_version: str) -> None:
    folder = get_store().current(model_version)
    if folder is None:
        report.parts["index"] = {"state": "unusable" if get_store().served() else "missing"}
        report.problems.append("The model has no index yet, searches go to the database: run manage.py reindex.")
        return
    try:
        manifest = Manifest.read(folder)
        report.parts["index"] = _describe_index(manifest)
        manifest.check(model_version=model_version, recipe_version=recipe_version())
    except EngineError as error:
        logger.warning("%s", error)
        report.parts["index"] = report.parts.get("index", {"generation": folder.name}) | {"state": "unusable"}
        report.problems.append("The index cannot be used, searches go to the database: run manage.py reindex.")


def _describe_index(manifest: Manifest) -> dict[str, Any]:
    age = datetime.now(UTC) - datetime.fromisoformat(manifest.created_at)
    return {
        "state": "live",
        "generation": manifest.name,
        "products": manifest.count,
        "age_s": round(age.total_seconds()),
    }


@lru_cache(maxsize=1)
def _reaches_broker(moment: int) -> bool:
    """Return whether the queue takes messages; looked up once in each `moment`."""
    url = settings.CELERY_BROKER_URL
    if url.startswith("filesystem:"):
        return os.access(str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"]), os.W_OK)
    limits = {"socket_connect_timeout": BROKER_TIMEOUT_S, "socket_timeout": BROKER_TIMEOUT_S}
    options = limits if url.startswith(("redis:", "rediss:")) else {}
    try:
        with app.connection_for_write(url, connect_timeout=BROKER_TIMEOUT_S, transport_options=options) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
    except Exception as error:  # whatever the transport raises
        logger.warning("the queue does not answer: %s", error)
        return False
    return True
