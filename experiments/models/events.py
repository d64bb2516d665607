"""The event log: what visitors searched for and what they did, by User Behavior Insights 1.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.db import connection, models
from django.utils import timezone

Logged = TypeVar("Logged", bound=models.Model)


class RowQuerySet(models.QuerySet[Logged]):
    """Rows that come in batches, some of them more than once."""

    def insert_new(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert rows, given by their fields' names, and return how many were not there before.

        Exact with several writers at once, which bulk_create cannot tell; rows go in the order of their keys, so that
        no two writers wait for each other.
        """
        if not rows:
            return 0
        fields = [field for field in self.model._meta.concrete_fields if not isinstance(field, models.AutoField)]
        table, *columns = map(connection.ops.quote_name, (self.model._meta.db_table, *(str(f.column) for f in fields)))
        marks = ", ".join(["%s"] * len(fields))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        values = [self._to_values(fields, row) for row in sorted(rows, key=self._sort_key)]
        with connection.cursor() as cursor:
            cursor.executemany(statement, values)
            return int(cursor.rowcount)

    def _to_values(self, fields: Sequence[Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            field.get_db_prep_save(row[field.name] if field.name in row else field.get_default(), connection)
            for field in fields
        )

    def _sort_key(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row.get(name, "")) for name in ("application", "event_id", "query_id", "batch_id"))


class SearchQuerySet(RowQuerySet["SearchLog"]):
    def between(self, since: datetime | None, until: datetime | None) -> SearchQuerySet:
        """Return the searches from `since` on and before `until`; None leaves that end open."""
        return self.filter(_within(since, until))

    def of_experiment(self, name: str, since: datetime | None) -> SearchQuerySet:
        """Return people's searches whose label may name the experiment, from `since` on; none where that is None."""
        named = self.filter(variant__contains=f"{name}:", is_bot=False)
        return named.filter(timestamp__gte=since) if since else self.none()


class SearchLog(models.Model):
    """One search of one visitor, however often its page was narrowed, sorted, turned or loaded again."""

    query_id = models.CharField(max_length=100, primary_key=True)
    client_id = models.CharField(max_length=100, blank=True)
    user_query = models.TextField(blank=True, help_text="As it was typed.")
    text = models.CharField(max_length=300, blank=True, db_index=True, help_text="Normalised.")
    timestamp = models.DateTimeField(db_index=True)
    received_at = models.DateTimeField(default=timezone.now)
    application = models.CharField(max_length=100, blank=True)
    total = models.PositiveIntegerField(null=True, blank=True, help_text="Products found, on all pages.")
    latency_ms = models.FloatField(null=True, blank=True)
    config_name = models.CharField(max_length=100, blank=True)
    variant = models.TextField(blank=True, help_text="Experiment and variant, of each it took part in.")
    notice = models.CharField(max_length=300, blank=True, help_text="What the visitor was told of a lesser answer.")
    page_size = models.PositiveIntegerField(null=True, blank=True)
    hit_skus = models.JSONField(default=list, blank=True, help_text="What the first page showed, in order.")
    query_attributes = models.JSONField(default=dict, blank=True, help_text="Filters, sort, page.")
    extras = models.JSONField(default=dict, blank=True, help_text="What else UBI knows of a query.")
    is_simulated = models.BooleanField(default=False)
    is_bot = models.BooleanField(default=False)

    objects = SearchQuerySet.as_manager()

    class Meta:
        verbose_name = "search"
        verbose_name_plural = "searches"
        indexes = [
            models.Index(fields=["client_id", "timestamp"], name="search_client_time"),
            models.Index(fields=["received_at"], name="search_received"),
        ]

    def __str__(self) -> str:
        return f"{self.user_query or 'all products'} ({self.query_id})"


class EventQuerySet(RowQuerySet["Event"]):
    def between(self, since: datetime | None, until: datetime | None) -> EventQuerySet:
        """Return the events from `since` on and before `until`; None leaves that end open."""
        return self.filter(_within(since, until))


class Event(models.Model):
    """Something one visitor did with one product, once for each application and event id."""

    event_id = models.CharField(max_length=100)
    application = models.CharField(max_length=100, blank=True)
    action_name = models.CharField(max_length=100)
    query_id = models.CharField(max_length=100, null=True, blank=True, db_index=True)
    client_id = models.CharField(max_length=100, blank=True)
    object_id = models.CharField("SKU", max_length=256, blank=True)
    position = models.PositiveIntegerField(null=True, blank=True, help_text="From 1, over all pages.")
    timestamp = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    value_cents = models.BigIntegerField("value (minor units)", default=0, help_text="Of all pieces together.")
    currency = models.CharField(max_length=3, blank=True)
    quantity = models.PositiveIntegerField(default=1)
    event_attributes = models.JSONField(default=dict, blank=True)
    extras = models.JSONField(default=dict, blank=True, help_text="What else UBI knows of an event.")
    is_simulated = models.BooleanField(default=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "event_id"], name="one_event_per_id")]
        indexes = [
            models.Index(fields=["action_name", "timestamp"], name="event_action_time"),
            models.Index(fields=["client_id", "timestamp"], name="event_client_time"),
            models.Index(fields=["received_at"], name="event_received"),
        ]

    def __str__(self) -> str:
        return f"{self.action_name} {self.object_id}"


def _within(since: datetime | None, until: datetime | None) -> models.Q:
    started = models.Q(timestamp__gte=since) if since else models.Q()
    return started & (models.Q(timestamp__lt=until) if until else models.Q())


class Reason(models.TextChoices):
    """Why something that came in does not count."""

    FORGED = "forged", "a reference not signed here, or of another product"
    FOREIGN = "foreign", "a reference of another visitor"
    EXPIRED = "expired", "a reference older than the attribution window"
    DUPLICATE = "duplicate", "an event that was there before"
    UNKNOWN_PRODUCT = "unknown product", "an event with a SKU that no product has"
    MALFORMED = "malformed", "an event with a wrong or missing field"
    CLOCK_SKEW = "clock skew", "an event from the future, or too old"
    OPTED_OUT = "opted out", "an event of a visitor who asks not to be tracked"


class RefusalQuerySet(models.QuerySet["Refusal"]):
    def add(self, counts: Mapping[str, int]) -> None:
        """Add to today's counts, given by reason."""
        today = timezone.now().date()
        for reason, count in sorted(counts.items()):
            if count:
                self.update_or_create(
                    day=today,
                    reason=reason,
                    defaults={"count": models.F("count") + count},
                    create_defaults={"count": count},
                )


class Refusal(models.Model):
    """How often something was ignored on a day (UTC) for a reason."""

    day = models.DateField()
    reason = models.CharField(max_length=20, choices=Reason.choices)
    count = models.PositiveBigIntegerField(default=0)

    objects = RefusalQuerySet.as_manager()

    class Meta:
        ordering = ["-day", "reason"]
        constraints = [models.UniqueConstraint(fields=["day", "reason"], name="one_count_per_day_and_reason")]

    def __str__(self) -> str:
        return f"{self.day} {self.reason}: {self.count}"


class TakenBatch(models.Model):
    """A batch that is in the log: brought again, it is known."""

    batch_id = models.CharField(max_length=100, primary_key=True)
    taken_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = RowQuerySet["TakenBatch"].as_manager()

    class Meta:
        verbose_name_plural = "taken batches"

    def __str__(self) -> str:
        return self.batch_id
