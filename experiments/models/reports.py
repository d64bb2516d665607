"""What reports are made from: each visitor's day in an experiment, summed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from experiments.models.events import SearchLog
from experiments.models.experiments import Experiment
from experiments.turns import take_turn

BATCH = 1000


class VisitorDayQuerySet(models.QuerySet["VisitorDay"]):
    def replace_day(
        self, experiment: Experiment, day: date, rows: Sequence[Mapping[str, Any]], began: datetime
    ) -> None:
        """Put these sums, made since `began`, in place of those of the day in this query set.

        Visitors erased meanwhile are left out. The experiment's row is not locked: stopping it waits for nobody.
        """
        mine = self.filter(experiment=experiment, day=day)
        with transaction.atomic():
            take_turn()  # one of several that count anew at a time
            mine.delete()
            self.bulk_create((VisitorDay(experiment=experiment, day=day, **row) for row in rows), batch_size=BATCH)
            known = SearchLog.objects.filter(client_id=models.OuterRef("client_id"), received_at__lt=began)
            mine.exclude(models.Exists(known)).delete()


class VisitorDay(models.Model):
    """What one visitor did with the searches of one day (UTC) in one variant: the one record of having seen it."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="visitor_days")
    variant = models.CharField(max_length=60)
    client_id = models.CharField(max_length=100)
    day = models.DateField()
    searches = models.PositiveIntegerField(default=0)
    clicked_searches = models.PositiveIntegerField(default=0)
    abandoned_searches = models.PositiveIntegerField(default=0, help_text="With results, and without a click.")
    zero_searches = models.PositiveIntegerField(default=0, help_text="Without results.")
    degraded_searches = models.PositiveIntegerField(default=0, help_text="Answered without the index.")
    slow_searches = models.PositiveIntegerField(default=0, help_text="Longer than the report's slow_ms.")
    impressions = models.PositiveIntegerField(default=0)
    clicks = models.PositiveIntegerField(default=0)
    adds = models.PositiveIntegerField(default=0)
    purchases = models.PositiveIntegerField(default=0, help_text="Products bought, each line once.")
    revenue_cents = models.BigIntegerField(default=0)
    click_rr = models.FloatField(default=0.0, help_text="Reciprocal rank of the first click, summed over searches.")
    net_wins = models.IntegerField(default=0, help_text="Of interleaved searches: won by the variant, less lost.")
    is_simulated = models.BooleanField(default=False)

    objects = VisitorDayQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["experiment", "day", "client_id", "variant"], name="one_row_a_visitor_day")
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.client_id} in {self.variant}"


class StoredReport(models.Model):
    """The report of an experiment as it was last made: pages show it without counting anything."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, related_name="report")
    content = models.JSONField(default=dict)
    rolled_up_to = models.DateTimeField(null=True, help_text="Events received before it are counted.")
    slow_ms = models.FloatField(null=True, help_text="The champion's p95 in its first searches, 100 at least.")
    made_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"report of {self.experiment.name}"
