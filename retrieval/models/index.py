"""The index in the database: waiting changes, vectors made, generations built, past queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db import models, transaction
from django.db.models import functions
from django.utils import timezone

LEAST_VISITORS = 3  # who asked the same before it is suggested to others
FORGOTTEN_AT_ONCE = 1_000  # queries of one transaction: writers wait for none longer


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
    def record(self, text: str, total: int, client_ids: Collection[str]) -> None:
        """Note that these visitors searched for `text` and found `total` products; each of them counts once."""
        with transaction.atomic():
            found, _ = self.select_for_update().get_or_create(text=text, defaults={"count": 0})
            found.count += Asker.objects.note(found, client_ids)
            found.total, found.last_at = total, timezone.now()
            found.save(update_fields=["count", "total", "last_at"])

    def starting_with(self, prefix: str, limit: int) -> Iterable[str]:
        """Return queries that found something and that several visitors asked, most asked first."""
        return (
            self.filter(text__gte=prefix, text__lt=prefix + "\U0010ffff", total__gt=0, count__gte=LEAST_VISITORS)
            .order_by("-count", "-last_at")
            .values_list("text", flat=True)[:limit]
        )


class PastQuery(models.Model):
    """A text shoppers searched for, how many of them, and how much it found the last time."""

    text = models.CharField(max_length=100, unique=True)
    count = models.PositiveIntegerField(default=1, help_text="Visitors who searched for it.")
    total = models.PositiveIntegerField(default=0, help_text="Products found the last time.")
    last_at = models.DateTimeField(default=timezone.now)

    objects = PastQueryQuerySet.as_manager()

    class Meta:
        ordering = ["-count"]
        verbose_name_plural = "past queries"

    def __str__(self) -> str:
        return self.text


class AskerQuerySet(models.QuerySet["Asker"]):
    def note(self, query: PastQuery, client_ids: Collection[str]) -> int:
        """Note that these visitors asked the query now, and return how many had not asked it before."""
        before = self.filter(query=query, client_id__in=client_ids).count()
        self.bulk_create(
            [Asker(query=query, client_id=client_id) for client_id in client_ids],
            update_conflicts=True,
            unique_fields=["query", "client_id"],
            update_fields=["last_at"],
        )
        return len(client_ids) - before

    def forget(self) -> int:
        """Delete these and the queries that nobody else asked, and return how many of the queries there were."""
        deleted = 0
        while keys := list(self.order_by("query").values_list("query", flat=True).distinct()[:FORGOTTEN_AT_ONCE]):
            with transaction.atomic():
                queries = PastQuery.objects.filter(pk__in=keys)
                list(queries.order_by("pk").select_for_update())
                self.filter(query__in=keys).delete()
                left = Asker.objects.filter(query=models.OuterRef("pk")).order_by().values("query")
                count = models.Subquery(left.annotate(count=models.Count("pk")).values("count"))
                queries.update(count=functions.Coalesce(count, 0))
                deleted += queries.filter(count=0).delete()[0]
        return deleted


class Asker(models.Model):
    """A visitor who asked a past query, kept no longer than searches are: what one alone typed is shown to no other."""

    query = models.ForeignKey(PastQuery, on_delete=models.CASCADE, related_name="askers")
    client_id = models.CharField(max_length=100, db_index=True)
    last_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = AskerQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["query", "client_id"], name="one_asker_of_a_query")]

    def __str__(self) -> str:
        return f"{self.client_id} asked {self.query_id}"
