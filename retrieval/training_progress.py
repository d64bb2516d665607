"""Telling of a training while it goes: its phase, its curves, its signs of life, and whether it is to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from django.db import DatabaseError, connection
from django.utils import timezone

from retrieval.models import TrainingRun

logger = logging.getLogger(__name__)
MOST_POINTS = 500  # of a curve
SAVE_S, LOOK_S, PULSE_S = 1.0, 1.0, 5.0
TOLD = ("phase", "steps_done", "steps_total", "losses", "scores")
OnProgress = Callable[[TrainingRun], None]


class Recorder:
    """Writes how far a training is, at most once a second, and reads as often whether it is to stop."""

    def __init__(self, run: TrainingRun, on_progress: OnProgress = lambda run: None, is_stopping: Any = None) -> None:
        self._run, self._on_progress = run, on_progress
        self._is_stopping: Callable[[], bool] = is_stopping or (lambda: False)
        self._saved_at = self._looked_at = -math.inf
        self._is_cancelled = False
        self._phase = ""
        self._first: tuple[int, float] | None = None  # a step of this process and when it was
        self._losses: list[float] = []
        self._part: tuple[int, float] | None = None  # how much of the phase was done when first told, and when that was
        self._done = 0

    def tell_phase(self, phase: str) -> None:
        self._phase = self._run.phase = phase[:100]
        self._part = None
        self.save()

    def tell_part(self, done: int, total: int) -> None:
        """Tell how much of the phase is done, and how long the rest will take."""
        if self._part is None or done < self._done:  # it begins, or another part of it
            self._part = (done, time.monotonic())
        self._done = done
        told = f", {100 * done // total} %" if total else ""
        self._run.phase = f"{self._phase}{told}{_tell_left(self._part, done, total)}"[:100]
        self.beat()

    def add_step(self, number: int, total: int, loss: float) -> None:
        """Note a step's loss; a curve has at most MOST_POINTS points, each the mean of the steps since the last."""
        run = self._run
        if self._first is None:
            self._first = (number, time.monotonic())
            # What was learned after the last checkpoint is learned again.
            run.losses = [point for point in run.losses if point[0] < number]
            run.scores = [point for point in run.scores if point[0] < number]
        run.steps_done, run.steps_total = number, total
        if math.isfinite(loss):
            self._losses.append(loss)
        if self._losses and (number % math.ceil(total / MOST_POINTS) == 0 or number == total):
            run.losses.append([number, round(sum(self._losses) / len(self._losses), 5)])
            self._losses.clear()
        run.phase = f"{self._phase}{_tell_left(self._first, number, total)}"[:100]
        self.beat()

    def add_score(self, number: int, score: float) -> None:
        """Note nDCG@10 on held-out queries after a step."""
        self._run.scores = [point for point in self._run.scores if point[0] < number] + [[number, round(score, 5)]]
        self.save()

    def beat(self) -> None:
        """Write what is new, unless that was done within the last second."""
        if time.monotonic() - self._saved_at >= SAVE_S:
            self.save()
        self._on_progress(self._run)

    def save(self) -> None:
        values = {name: getattr(self._run, name) for name in TOLD}
        with busy_database_told(self._run.pk):
            rows = TrainingRun.objects.filter(pk=self._run.pk, state__in=TrainingRun.OPEN)
            rows.update(beat_at=timezone.now(), **values)
        self._saved_at = time.monotonic()
        self._on_progress(self._run)

    def enter(self, phase: str) -> None:
        """Tell the phase that begins; raises as `check`."""
        self.tell_phase(phase)
        self.check()

    def check(self) -> None:
        """Give a sign of life; raises TrainingCancelledError when the training is to stop."""
        if self.is_cancelled():
            from retrieval.learning.training import TrainingCancelledError  # brings torch, as whoever trains has

            raise TrainingCancelledError("cancelled")

    def go_on(self, done: int, total: int) -> None:
        """Tell how much of the phase is done; raises as `check`."""
        self.tell_part(done, total)
        self.check()

    def is_cancelled(self) -> bool:
        """Return whether the training is to stop now: asked to, ended by another process, or its own is to end."""
        self.beat()
        if self._is_stopping():
            return True
        if not self._is_cancelled and time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            with busy_database_told(self._run.pk):
                rows = TrainingRun.objects.filter(pk=self._run.pk, state__in=TrainingRun.OPEN)
                asked = rows.values_list("is_cancel_requested", flat=True)
                self._is_cancelled = asked.first() is not False  # None: deleted, or over
        return self._is_cancelled


def _tell_left(first: tuple[int, float], done: int, total: int) -> str:
    """Return how long the rest will take at the pace since the first one told; nothing where that is not known."""
    number, since = first
    if done <= number or done >= total:
        return ""
    seconds = (time.monotonic() - since) / (done - number) * (total - done)
    return f", about {describe_time(seconds)} left"


@contextmanager
def busy_database_told(run_id: int) -> Iterator[None]:
    """Log that the database is busy or down and go on: the next word may come through, hours of training go on."""
    try:
        yield
    except DatabaseError as error:
        logger.warning("training %s: %s", run_id, error)
        connection.close()


def describe_time(seconds: float) -> str:
    """Return a duration in words that are precise enough to wait by."""
    left = timedelta(seconds=round(seconds))
    if left < timedelta(seconds=90):
        return f"{left.seconds} s"
    if left < timedelta(minutes=90):
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def pulse(run: TrainingRun, interval_s: float = PULSE_S) -> Iterator[None]:
    """Give signs of life for as long as the block takes: a step, an export or the reading of a model may be long."""
    stop = Event()
    thread = Thread(target=_beat_until, args=(stop, run.pk, interval_s), name="training-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat_until(stop: Event, run_id: int, interval_s: float) -> None:
    try:
        while not stop.wait(interval_s):
            with busy_database_told(run_id):
                TrainingRun.objects.filter(pk=run_id).update(beat_at=timezone.now())
    finally:
        connection.close()
