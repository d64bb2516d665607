"""Rows wait in memory for a moment and go to disk together, off the path of whoever recorded them."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import Any

from django.db import DatabaseError, connection

from experiments import spool
from experiments.intake import take_in_spool
from experiments.spool import Batch

FLUSH_INTERVAL_S = 1.0
BATCH_SIZE = 500  # rows; so many are written without waiting for the interval
MAX_WAITING = 20_000  # rows; beyond it whoever records writes to disk
PATIENCE_S = 60.0  # what no worker took in by then, the process that recorded it does

logger = logging.getLogger(__name__)


class EventBuffer:
    """Keeps rows until its own thread spools them, each second or every 500.

    The spool is written first and the worker woken after: neither a lost message nor a killed process loses a row.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Keep nothing, with locks that nobody holds: a forked child's, whose parent writes what waits."""
        self._lock = threading.Lock()
        self._spooling = threading.Lock()  # held while rows are neither here nor on disk
        self._waiting = Batch()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._looked_at = time.monotonic()

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Keep a row of `table`: searches or events."""
        with self._lock:
            getattr(self._waiting, table).append(row)
            self._start()
            is_full = len(self._waiting) >= MAX_WAITING
            if len(self._waiting) >= BATCH_SIZE:
                self._wake.set()
        if is_full:
            self.spool()

    def add_refusals(self, reason: str, count: int) -> None:
        with self._lock:
            self._waiting.refusals[reason] += count
            self._start()

    def flush(self) -> None:
        """Spool what waits and see that it is taken in: by a worker, and by this thread where no worker can be told."""
        is_known = spool.count_waiting() > 0  # a worker was told of it, or looks by its clock
        if self.spool() and not is_known and not wake_worker():
            take_in_spool()

    def spool(self) -> bool:
        """Write what waits to disk and return whether that was anything. A full disk keeps it waiting here.

        What another thread is writing is on disk by then too.
        """
        with self._spooling:
            with self._lock:
                waiting, self._waiting = self._waiting, Batch()
            for batch in waiting.split(BATCH_SIZE):
                self._put(batch)
        return bool(waiting)

    def _put(self, batch: Batch) -> None:
        try:
            spool.put(batch)
        except OSError as error:
            self._take_back(batch, error)
        except Exception as error:  # no later try would write it either: the rows beside the bad one go on
            if not (parts := batch.halve()):
                logger.error("a row is lost, it cannot be spooled: %r", error)
            for part in parts:
                self._put(part)

    def _take_back(self, batch: Batch, error: OSError) -> None:
        with self._lock:
            is_kept = len(self._waiting) + len(batch) <= MAX_WAITING
            if is_kept:
                self._waiting.extend(batch)
        told = "wait in memory" if is_kept else "are lost"
        logger.error("%d rows %s, the spool cannot be written: %s", len(batch), told, error)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            try:
                self.flush()
                self._take_in_what_is_left()
            except DatabaseError as error:
                logger.error("events wait in the spool, the database does not take them: %s", error)
            except Exception:  # the thread must live: the next round tries again
                logger.exception("events were not written")
            finally:
                connection.close()

    def _take_in_what_is_left(self) -> None:
        if time.monotonic() - self._looked_at >= PATIENCE_S:
            self._looked_at = time.monotonic()
            take_in_spool(older_than_s=PATIENCE_S)


def wake_worker() -> bool:
    """Tell a worker that there is something to take in, and return whether the queue took the message."""
    from experiments.tasks import write_events

    try:
        write_events.delay()
    except Exception as error:  # whatever the transport raises
        logger.warning("the queue does not answer, events are written from here: %s", error)
        return False
    return True


buffer = EventBuffer()
atexit.register(buffer.spool)
os.register_at_fork(after_in_child=buffer.begin_anew)
