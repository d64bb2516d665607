"""Counting what shoppers search for, off the path of their search."""

from __future__ import annotations

import atexit
import logging
import threading
from collections import Counter

from django.db import DatabaseError, connection

from retrieval.engine.text import normalize
from retrieval.models import PastQuery

MAX_LENGTH = 100
FLUSH_INTERVAL_S = 5.0
MAX_WAITING = 1000  # different texts; beyond that the newest are not counted until the next flush

logger = logging.getLogger(__name__)


class QueryCounter:
    """Counts in memory and writes now and then from a thread of its own, so that no search waits for a write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._totals: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, text: str, total: int) -> None:
        with self._lock:
            if text in self._counts or len(self._counts) < MAX_WAITING:
                self._counts[text] += 1
                self._totals[text] = total
            if self._thread is None or not self._thread.is_alive():  # a forked child has none yet
                self._thread = threading.Thread(target=self._run, name="past-queries", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write all counts to the database; what cannot be written is dropped, it is only for suggestions."""
        with self._lock:
            counts, totals = self._counts, self._totals
            self._counts, self._totals = Counter(), {}
        try:
            for text, count in counts.items():
                PastQuery.objects.record(text, totals[text], count)
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


def record_query(text: str, total: int) -> None:
    """Count a search for `text`, so that it can be suggested to others when it found something."""
    normalized = normalize(text)
    if normalized and len(normalized) <= MAX_LENGTH:
        _counter.add(normalized, total)


def flush_recorded() -> None:
    """Write what was counted and not yet written."""
    _counter.flush()
