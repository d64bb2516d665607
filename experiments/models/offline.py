"""Evaluations that were asked for on a page."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from experiments.models.analytics import OfflineEvaluation
from experiments.models.experiments import Experiment
from retrieval.models import JudgementSet

INTERRUPTED_AFTER = timedelta(minutes=10)  # longer than a reranker takes to be exported before the first search


class OfflineRunQuerySet(models.QuerySet["OfflineRun"]):
    def stale(self) -> OfflineRunQuerySet:
        """Return the runs that nobody works at although they are not done."""
        return self.filter(is_open=True, beat_at__lt=timezone.now() - INTERRUPTED_AFTER)


class OfflineRun(models.Model):
    """An evaluation that waits for a worker or is under way, and how it ended; there is one open run at a time."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"

    judgement_set = models.ForeignKey(JudgementSet, on_delete=models.CASCADE, related_name="+")
    experiment = models.ForeignKey(
        Experiment, on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        help_text="Whose variants are evaluated; the shop's own search without one.",
    )  # fmt: skip
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    is_open = models.BooleanField(default=True, help_text="Queued or running.")
    queries_done = models.PositiveIntegerField(default=0)
    queries_total = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    result = models.ForeignKey(OfflineEvaluation, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    beat_at = models.DateTimeField(
        default=timezone.now,
        help_text="Moves with every pipeline opened and every 20 queries: one that stands still was killed.",
    )

    objects = OfflineRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["is_open"], condition=models.Q(is_open=True), name="one_open_offline_run")
        ]

    def __str__(self) -> str:
        subject = f"the variants of {self.experiment.name}" if self.experiment else "the shop's own search"
        return f"{subject} on {self.judgement_set.name}"

    @property
    def is_stale(self) -> bool:
        return self.is_open and timezone.now() - self.beat_at > INTERRUPTED_AFTER
