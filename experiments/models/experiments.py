"""Which rankings are compared, with whom, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from experiments.assignment import SLOTS, Arm, Plan, Targeting, make_salt
from retrieval.engine.config import SearchConfig
from retrieval.engine.types import EngineError

RESERVED = ("login", "logout", "offline", "searches", "see")  # pages beside those of experiments
SHARE = (MinValueValidator(0.0), MaxValueValidator(1.0))


class Metric(models.TextChoices):
    """What an experiment is decided by; each is a sum per visitor, or a ratio of two."""

    CTR = "ctr", "searches with a click"
    ADD_RATE = "add_rate", "visitors who add to their cart"
    CONVERSION = "conversion", "visitors who buy"
    PURCHASES = "purchases", "purchases per visitor"
    REVENUE = "revenue", "revenue per visitor"
    CLICK_RR = "click_rr", "reciprocal rank of the first click"
    ZERO_RESULTS = "zero_results", "searches without results"
    ABANDONED = "abandoned", "searches without a click"


class ExperimentQuerySet(models.QuerySet["Experiment"]):
    def running(self) -> ExperimentQuerySet:
        """Return the running experiments with their variants, oldest first: the earlier one has the first word."""
        return self.filter(status=Experiment.Status.RUNNING).order_by("started_at", "pk").prefetch_related("variants")

    def drafts(self, names: Iterable[str]) -> ExperimentQuerySet:
        """Return the drafts of these names with their variants, oldest first."""
        found = self.filter(status=Experiment.Status.DRAFT, name__in=names)
        return found.order_by("created_at", "pk").prefetch_related("variants")


class Experiment(models.Model):
    """A question put to shoppers: which of some rankings serves them better."""

    class Kind(models.TextChoices):
        AB = "ab", "A/B test"
        INTERLEAVING = "interleaving", "interleaving"

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        RUNNING = "running", "running"
        STOPPED = "stopped", "stopped"

    name = models.SlugField(max_length=60, unique=True, help_text="Short and lasting: it stands in exports and links.")
    hypothesis = models.TextField(blank=True, help_text="What is expected to happen, and why.")
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.AB)
    metric = models.CharField(
        "decided by",
        max_length=20,
        choices=Metric.choices,
        default=Metric.CONVERSION,
        help_text="Chosen before the start.",
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT, editable=False)
    salt = models.CharField(max_length=40, unique=True, default=make_salt, editable=False)
    traffic_share = models.FloatField(
        default=1.0, validators=SHARE, help_text="Of the visitors it could have: a larger share later moves nobody."
    )
    layer = models.SlugField(
        max_length=60, blank=True, help_text="Experiments of one layer share no visitor; empty for none."
    )
    layer_from = models.PositiveIntegerField("from slot", default=0, validators=[MaxValueValidator(SLOTS)])
    layer_to = models.PositiveIntegerField(
        "to slot", default=SLOTS, validators=[MaxValueValidator(SLOTS)], help_text=f"Not included, at most {SLOTS}."
    )
    devices = models.JSONField(default=list, blank=True, help_text='Such as ["mobile"]; empty for all.')
    languages = models.JSONField(default=list, blank=True, help_text='Such as ["de", "en-GB"]; empty for all.')
    segments = models.JSONField(default=list, blank=True, help_text='Of queries, such as ["code"]; empty for all.')
    guardrail_margin = models.FloatField(
        default=0.05, validators=SHARE, help_text="A variant that is surely worse by this share is stopped by itself."
    )
    worthwhile_lift = models.FloatField(
        "lift worth finding", default=0.05, validators=[MinValueValidator(0.001), MaxValueValidator(10.0)],
        help_text="The smallest one that would change what you do, 0.05 is 5 %: days to go follow from it.",
    )  # fmt: skip
    started_at = models.DateTimeField(null=True, editable=False)
    stopped_at = models.DateTimeField(null=True, editable=False)
    stop_reason = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        permissions = [("view_report", "Can read reports of experiments")]

    def __str__(self) -> str:
        return self.name

    @property
    def is_running(self) -> bool:
        return self.status == self.Status.RUNNING

    def to_plan(self, arms: tuple[Arm, ...]) -> Plan:
        """Return how its visitors are divided; raises ValueError naming what divides nobody."""
        return Plan(
            self.salt,
            arms,
            self.traffic_share,
            self.layer,
            (self.layer_from, self.layer_to) if self.layer else (0, SLOTS),
            Targeting(frozenset(self.devices), frozenset(self.languages), frozenset(self.segments)),
        )

    def clean(self) -> None:
        if self.name in RESERVED:
            raise ValidationError({"name": f"Reports have a page of the name {self.name!r}: choose another."})
        for name in ("devices", "languages", "segments"):
            if not _is_list_of_texts(getattr(self, name)):
                raise ValidationError({name: 'Expected a list of texts, such as ["one", "other"].'})
        try:
            self.to_plan((Arm("any"),))
        except ValueError as error:
            raise ValidationError(str(error)) from error
        self._check_share()

    def _check_share(self) -> None:
        """Raise ValidationError for a share below that of what runs: whom it sends away would be counted no more."""
        mine = Experiment.objects.filter(pk=self.pk, status=self.Status.RUNNING)
        now = mine.values_list("traffic_share", flat=True).first()
        if now is not None and self.traffic_share is not None and self.traffic_share < now:
            raise ValidationError(f"It runs with a traffic share of {now:g}, which can only grow: stop it instead.")


class Variant(models.Model):
    """One ranking of an experiment: what it does differently from the shop's own."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="variants")
    name = models.SlugField(max_length=60)
    weight = models.FloatField(default=1.0, validators=[MinValueValidator(0.0)], help_text="Relative to the others'.")
    changes = models.JSONField(
        default=dict, blank=True, help_text='Of the search config, such as {"dense_weight": 0.5}; empty for none.'
    )
    is_champion = models.BooleanField(default=False, help_text="The one the others are compared with.")
    stopped_at = models.DateTimeField(null=True, editable=False)
    stop_reason = models.TextField(blank=True, editable=False)

    class Meta:
        ordering = ["-is_champion", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "name"], name="one_variant_of_a_name"),
            models.UniqueConstraint(
                fields=["experiment"], condition=models.Q(is_champion=True), name="one_champion_an_experiment"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment.name}: {self.name}"

    def to_arm(self) -> Arm:
        return Arm(self.name, self.weight)

    def clean(self) -> None:
        try:
            change_config(SearchConfig(), self.changes)
        except EngineError as error:
            raise ValidationError({"changes": str(error)}) from error


def change_config(config: SearchConfig, changes: Mapping[str, Any], name: str = "") -> SearchConfig:
    """Return the config with these changes, named `name` where there are any; raises EngineError for a wrong one."""
    if not isinstance(changes, Mapping):
        raise EngineError(f"changes of a config {changes!r}: expected names with values, such as {{'depth': 200}}")
    if "name" in changes:
        raise EngineError("the name of a variant's config is the variant's own: leave it out of the changes")
    changed = SearchConfig.from_dict(config.to_dict() | dict(changes))
    return replace(changed, name=name or config.name) if changes else config


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each for each in value)
