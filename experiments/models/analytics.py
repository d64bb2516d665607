"""What pages about searches read: the event log summed by day, and evaluations that were made."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TypeVar

from django.db import models, transaction
from django.utils import timezone

from retrieval.models import JudgementSet

BATCH = 1000
Day = TypeVar("Day", bound="OfDay")


class DayQuerySet(models.QuerySet[Day]):
    def between(self, first: date, last: date, *, with_simulated: bool = True) -> DayQuerySet[Day]:
        """Return the rows from the first day to the last, both included."""
        found = self.filter(day__range=(first, last))
        return found if with_simulated else found.filter(is_simulated=False)

    def replace_day(self, day: date, rows: Iterable[Day]) -> None:
        """Put these rows in place of what the day had."""
        with transaction.atomic():
            self.filter(day=day).delete()
            self.bulk_create(rows, batch_size=BATCH)


class OfDay(models.Model):
    """Something of one day (UTC), simulated searches apart from real ones; bots are in none."""

    day = models.DateField()
    is_simulated = models.BooleanField(default=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.day}"


class SearchDay(OfDay):
    """All searches of a day; those that became another one while they were typed are in no count but `latencies`."""

    searches = models.PositiveIntegerField(default=0)
    browsed = models.PositiveIntegerField(default=0, help_text="Searches in which nothing was typed.")
    clicked = models.PositiveIntegerField(default=0, help_text="Searches with a click.")
    zero = models.PositiveIntegerField(default=0, help_text="Searches without results.")
    revenue_cents = models.BigIntegerField(default=0)
    latencies = models.JSONField(default=dict, help_text="How many searches took how long, by step of a log scale.")

    objects = DayQuerySet["SearchDay"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "is_simulated"], name="one_search_day")]


class SearcherDay(OfDay):
    """A visitor who searched on a day: visitors of many days are counted once."""

    client_id = models.CharField(max_length=100, db_index=True)

    objects = DayQuerySet["SearcherDay"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "client_id", "is_simulated"], name="one_searcher_day")]


class QueryDay(OfDay):
    """All searches of a day for one text."""

    text = models.CharField(max_length=300)
    searches = models.PositiveIntegerField(default=0)
    visitors = models.PositiveIntegerField(default=0)
    clicked = models.PositiveIntegerField(default=0, help_text="Searches with a click.")
    zero = models.PositiveIntegerField(default=0, help_text="Searches without results.")
    revenue_cents = models.BigIntegerField(default=0)

    objects = DayQuerySet["QueryDay"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "is_simulated", "text"], name="one_query_day")]


class PositionDay(OfDay):
    """What was done on a day with the product at one position of a first page, neither filtered nor sorted anew."""

    position = models.PositiveIntegerField()
    shown = models.PositiveIntegerField(default=0, help_text="Searches with a product there.")
    clicked = models.PositiveIntegerField(default=0, help_text="Those of them in which it was clicked.")
    seen = models.PositiveIntegerField(default=0, help_text="Those in which a browser told that it came into view.")
    seen_clicked = models.PositiveIntegerField(default=0, help_text="Those of the latter in which it was clicked.")

    objects = DayQuerySet["PositionDay"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "is_simulated", "position"], name="one_position_day")]


class SearchSummary(models.Model):
    """What the page about searches shows for so many days up to today, as it was last made."""

    days = models.PositiveIntegerField()
    with_simulated = models.BooleanField()
    content = models.JSONField(default=dict)
    summed_to = models.DateTimeField(help_text="What was received before it is counted.")
    made_at = models.DateTimeField(default=timezone.now)

    objects = models.Manager["SearchSummary"]()

    class Meta:
        verbose_name_plural = "search summaries"
        constraints = [models.UniqueConstraint(fields=["days", "with_simulated"], name="one_summary")]

    def __str__(self) -> str:
        return f"searches of {self.days} days"


class OfflineEvaluation(models.Model):
    """How good some configs' rankings were on a judgement set at one time; the first config is the one to beat."""

    judgement_set = models.ForeignKey(JudgementSet, on_delete=models.CASCADE, related_name="offline_evaluations")
    experiment = models.ForeignKey(
        "experiments.Experiment", on_delete=models.CASCADE, null=True, blank=True, related_name="offline_evaluations",
        help_text="Whose variants they are.",
    )  # fmt: skip
    configs = models.JSONField(default=list, help_text="The configs with all their settings, in order.")
    content = models.JSONField(default=dict)
    made_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = models.Manager["OfflineEvaluation"]()

    class Meta:
        ordering = ["-made_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.judgement_set} at {self.made_at:%Y-%m-%d %H:%M}"

    @property
    def names(self) -> list[str]:
        """The configs' names in order, which a database need not keep for the names of a JSON object."""
        return [config["name"] for config in self.configs]
