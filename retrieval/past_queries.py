"""Counting what shoppers search for, off the path of their search."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import defaultdict
from datetime import datetime

from django.db import DatabaseError, connection

from retrieval.engine.text import normalize
from retrieval.models import Asker, PastQuery

MAX_LENGTH = 100
FLUSH_INTERVAL_S = 5.0
MAX_WAITING = 1000  # different texts; beyond that the newest are not counted until the next flush

logger = logging.getLogger(__name__)


class QueryCounter:
    """Counts in memory and writes now and then from a thread of its own, so that no search waits for a write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._askers: defaultdict[str, set[str]] = defaultdict(set)
        self._totals: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, text: str, total: int, client_id: str) -> None:
        with self._lock:
            if text in self._askers or len(self._askers) < MAX_WAITING:
                self._askers[text].add(client_id)
                self._totals[text] = total
            if self._thread is None or not self._thread.is_alive():  # a forked child has none yet
                self._thread = threading.Thread(target=self._run, name="past-queries", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write all counts to the database; what cannot be written is dropped, it is only for suggestions."""
        with self._lock:
            askers, totals = self._askers, self._totals
            self._askers, self._totals = defaultdict(set), {}
        try:
            for text, client_ids in askers.items():
                PastQuery.objects.record(text, totals[text], client_ids)
        except DatabaseError as error:
            logger.warning("past queries were not counted: %s", error)

    def _run(self) -> None:
        while not self._wake.wait(FLUSH_INTERVAL_S):
            try:
                self.flush()
            finally:
                connection.close()


_counter = QueryCounter()
atexit.register(_counter.flush)


def record_query(text: str, total: int, client_id: str) -> None:
    """Note that a visitor searched for `text`: once several have and it found something, it is suggested to others."""
    normalized = normalize(text)
    if normalized and len(normalized) <= MAX_LENGTH:
        _counter.add(normalized, total, client_id)


def flush_recorded() -> None:
    """Write what was counted and not yet written."""
    _counter.flush()


def forget_visitor(client_id: str) -> int:
    """Leave a visitor out of all counts, delete what nobody else searched for, and return how many texts that were."""
    flush_recorded()
    return Asker.objects.filter(client_id=client_id).forget()


def prune(before: datetime) -> int:
    """Leave out who searched for a text last before then, delete what nobody did since, and return how many texts."""
    return Asker.objects.filter(last_at__lt=before).forget()
