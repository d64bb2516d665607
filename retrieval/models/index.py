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
    def mark_served(self, live: str, beside: Iterable[str] = ()) -> None:
        """Note which generation is live and which serve beside it; those that did before are retired."""
        states, names = IndexBuild.State, set(beside)
        self.filter(state__in=(states.LIVE, states.SHADOW)).exclude(generation__in={live, *names}).update(
            state=states.RETIRED
        )
        self.filter(generation__in=names).update(state=states.SHADOW)
        if live:
            self.filter(generation=live).update(state=states.LIVE)

    def mark_interrupted(self, state: IndexBuild.State) -> None:
        """Note that builds still in this state were left by a process that died."""
        self.filter(state=state).update(state=IndexBuild.State.FAILED, error="interrupted", finished_at=timezone.now())


class IndexBuild(models.Model):
    """One building of an index generation: how far it is and how it ended."""

    class State(models.TextChoices):
        PREPARING = "preparing"  # vectors are made for a model beside the live one
        BUILDING = "building"
        LIVE = "live"
        SHADOW = "shadow"
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


class Diagnosis(IndexBuild):
    """What the admin hangs the page of diagnostics on, with permissions of its own. It has no table."""

    class Meta:
        proxy = True
        verbose_name_plural = "diagnostics"


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
