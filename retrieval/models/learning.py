"""Learning in the database: graded queries, the models made from them, and the trainings that made them."""

from __future__ import annotations

from datetime import timedelta

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

INTERRUPTED_AFTER = timedelta(seconds=120)  # without a sign of life from the process that trains


class JudgementSet(models.Model):
    """Grades of products for queries, from one source: the only door between what shoppers do and learning."""

    class Source(models.TextChoices):
        RATINGS = "ratings"
        CLICKS = "clicks"

    name = models.CharField(max_length=100, unique=True)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.RATINGS)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Judgement(models.Model):
    """How well one product answers one query: 3 exactly, 2 a good substitute, 1 related, 0 wrong."""

    judgement_set = models.ForeignKey(JudgementSet, on_delete=models.CASCADE, related_name="judgements")
    query = models.CharField(max_length=300)
    sku = models.CharField(max_length=100, help_text="A product need not be on sale to be judged.")
    grade = models.FloatField(validators=[MinValueValidator(0), MaxValueValidator(3)])
    # Of sets made of clicks:
    impressions = models.PositiveBigIntegerField(null=True, blank=True, help_text="Searches that showed the product.")
    clicks = models.PositiveBigIntegerField(null=True, blank=True, help_text="Those of them in which it was clicked.")
    low = models.FloatField(
        null=True, blank=True, help_text="Low end of the 95 % interval of relevance, where the query's best is 1."
    )
    high = models.FloatField(
        null=True, blank=True, help_text="High end of the 95 % interval of relevance, where the query's best is 1."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["judgement_set", "query", "sku"], name="one_grade_per_query_and_product")
        ]

    def __str__(self) -> str:
        return f"{self.query}: {self.sku} {self.grade:g}"


class ModelKind(models.TextChoices):
    TWO_TOWER = "two-tower"
    CROSS_ENCODER = "cross-encoder"


class ModelVersion(models.Model):
    """A model as an immutable folder: what it was made from, of what, and how good it was found to be."""

    class Origin(models.TextChoices):
        BUILT_IN = "built in"
        TRAINED = "trained"
        IMPORTED = "imported"

    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=20, choices=ModelKind.choices)
    origin = models.CharField(max_length=10, choices=Origin.choices)
    base = models.CharField(max_length=300, help_text="Name or path of the model whose weights it changes.")
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="children")
    exported = models.CharField(max_length=100, blank=True, help_text="Its version in the engine's form.")
    dim = models.PositiveIntegerField(default=0, help_text="Numbers per vector, 1 for a cross-encoder.")
    recipe_version = models.CharField(max_length=20, blank=True)
    data_hash = models.CharField(max_length=32, blank=True, help_text="Of what it learned from.")
    size_bytes = models.PositiveBigIntegerField(default=0)
    settings = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    verdict = models.JSONField(default=dict, blank=True, help_text="What the gate found, empty before.")
    note = models.TextField(blank=True)
    work = models.TextField(blank=True, help_text="What a worker does with it or is to do, or why that failed.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class TrainingRun(models.Model):
    """One training: what was asked, how far it is, its curves, and the model it made."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"
        CANCELLED = "cancelled"

    OPEN = (State.QUEUED, State.RUNNING)

    kind = models.CharField(max_length=20, choices=ModelKind.choices, default=ModelKind.TWO_TOWER)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    sources = models.JSONField(default=list, blank=True, help_text="[[name, weight], …]")
    settings = models.JSONField(default=dict, blank=True)
    phase = models.CharField(max_length=100, blank=True, help_text="What it is doing now.")
    steps_done = models.PositiveIntegerField(default=0)
    steps_total = models.PositiveIntegerField(default=0)
    losses = models.JSONField(default=list, blank=True, help_text="[[step, mean loss], …]")
    scores = models.JSONField(default=list, blank=True, help_text="[[step, nDCG@10 on held-out queries], …]")
    error = models.TextField(blank=True)
    is_cancel_requested = models.BooleanField(default=False)
    result = models.ForeignKey(ModelVersion, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    # Moves with every step: a run that stands still was killed.
    beat_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} training {self.pk} ({self.state})"

    @property
    def is_interrupted(self) -> bool:
        return self.state == self.State.RUNNING and timezone.now() - self.beat_at > INTERRUPTED_AFTER

    @property
    def share_done(self) -> float:
        """How much of its steps are done, 0 to 1."""
        return min(self.steps_done / self.steps_total, 1.0) if self.steps_total else 0.0
