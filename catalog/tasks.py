"""Imports for Celery. What is to do stands in the database, so a lost message loses nothing."""

import logging
from functools import partial
from typing import Any

from celery import shared_task
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from catalog.imports import import_file
from catalog.models import ImportRun
from catalog.readers import ImportRefused

logger = logging.getLogger(__name__)


@shared_task(bind=True)
def run_import(self: Any, run_id: int) -> None:
    """Import an uploaded file. Delivered again after a kill, it starts again and does what is left to do."""
    run = _claim(run_id, is_redelivered=bool((self.request.delivery_info or {}).get("redelivered")))
    if run is None:
        return
    try:
        import_file(run.upload.path, run=run)
    except ImportRefused as error:
        logger.warning("import %s was refused: %s", run_id, error)  # the run tells whoever asked for it


@shared_task
def resume_imports() -> int:
    """Queue uploads whose message was lost or whose worker was killed, and return how many there were."""
    waiting = ImportRun.objects.exclude(upload="").stale()
    for run in waiting:
        queue_import(run)
    return len(waiting)


def queue_import(run: ImportRun) -> None:
    """Have a worker import the run's file once the transaction is committed."""
    ImportRun.objects.filter(pk=run.pk).update(state=ImportRun.State.PENDING, error="", beat_at=timezone.now())
    transaction.on_commit(partial(_send, run.pk))


def _claim(run_id: int, *, is_redelivered: bool) -> ImportRun | None:
    """Return the run, now running; None for one that is done, deleted, or in another worker's hands."""
    with transaction.atomic():
        run = ImportRun.objects.select_for_update().filter(pk=run_id).first()
        is_open = run is not None and (run.state == ImportRun.State.PENDING or run.is_interrupted)
        if run is None or not (is_open or (is_redelivered and run.state == ImportRun.State.RUNNING)):
            return None
        run.state = ImportRun.State.RUNNING
        run.save()
    return run


def _send(run_id: int) -> None:
    try:
        run_import.delay(run_id)
    except (OperationalError, OSError) as error:
        told = f"the queue does not answer ({error}); start it, then choose “Run again”"
        ImportRun.objects.filter(pk=run_id).update(state=ImportRun.State.FAILED, error=told)
        logger.error("import %s is not queued: %s", run_id, error)
