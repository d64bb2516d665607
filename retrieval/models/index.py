"""The index in the database: waiting changes, vectors made, generations built, past queries."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import models
from django.utils import timezone


class PendingChangeQuerySet(models.QuerySet["PendingChange"]):
    def product_ids(self) -> set[int]:
        """Return the products of all these changes."""
        return {product_id for ids in self.values_list("product_ids", flat=True) for product_id in ids}


class PendingChange(models.Model):
    """Products that changed together and are not yet in the index: written with the change, removed once live."""

    product_ids = models.JSONField()
    queued_at = models.DateTimeField(default=timezone.now)

    objects = PendingChangeQuerySet.as_manager()

    class Meta:
        verbose_name = "pending change"

    def __str__(self) -> str:
        return f"{len(self.product_ids)} products"


class Embedding(models.Model):
    """The vector of one text under one model: whatever is built, no text is embedded twice."""

    model_version = models.CharField(max_length=100)
    text_hash = models.CharField(max_length=32)
    vector = models.BinaryField(help_text="float32, little endian")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model_version", "text_hash"], name="one_vector_per_text")]

    def __str__(self) -> str:
        return f"{self.model_version} {self.text_hash}"


class IndexBuildQuerySet(models.QuerySet["IndexBuild"]):
    def mark_live(self, generation: str) -> None:
        """Note which generation serves now; the one before is retired."""
        self.filter(state=IndexBuild.State.LIVE).exclude(generation=generation).update(state=IndexBuild.State.RETIRED)
        self.filter(generation=generation).update(state=IndexBuild.State.LIVE)

    def mark_interrupted(self) -> None:
        """Note that builds still open were left by a process that died."""
        self.filter(state=IndexBuild.State.BUILDING).update(
            state=IndexBuild.State.FAILED, error="interrupted", finished_at=timezone.now()
        )


class IndexBuild(models.Model):
    """One building of an index generation: how far it is and how it ended."""

    class State(models.TextChoices):
        BUILDING = "building"
        LIVE = "live"
        RETIRED = "retired"
        FAILED = "failed"

    generation = models.CharField(max_length=100, blank=True)
    model_version = models.CharField(max_length=100, blank=True)
    recipe_version = models.CharField(max_length=20, blank=True)
    is_full = models.BooleanField(default=True, help_text="Built anew, not from the generation before.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.BUILDING)
    products_total = models.PositiveIntegerField(default=0)
    products_done = models.PositiveIntegerField(default=0)
    embedded = models.PositiveIntegerField(default=0, help_text="Texts that had no vector yet.")
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = IndexBuildQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "index generation"

    def __str__(self) -> str:
        return f"{self.generation or 'new generation'} ({self.state})"


class PastQueryQuerySet(models.QuerySet["PastQuery"]):
    def record(self, text: str, total: int, count: int = 1) -> None:
        """Add `count` searches for `text` that found `total` products."""
        now = timezone.now()
        if not self.filter(text=text).update(count=models.F("count") + count, total=total, last_at=now):
            self.bulk_create([PastQuery(text=text, count=count, total=total, last_at=now)], ignore_conflicts=True)

    def starting_with(self, prefix: str, limit: int) -> Iterable[str]:
        """Return queries that found something, most asked first."""
        return (
            self.filter(text__gte=prefix, text__lt=prefix + "\U0010ffff", total__gt=0)
            .order_by("-count", "-last_at")
            .values_list("text", flat=True)[:limit]
        )


class PastQuery(models.Model):
    """A text shoppers searched for, how often, and how much it found the last time."""

    text = models.CharField(max_length=100, unique=True)
    count = models.PositiveIntegerField(default=1)
    total = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField(default=timezone.now)

    objects = PastQueryQuerySet.as_manager()

    class Meta:
        ordering = ["-count"]
        verbose_name_plural = "past queries"

    def __str__(self) -> str:
        return self.text
