"""Starting and stopping experiments: what must hold before shoppers see one, and how it ends."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from experiments.assignment import Arm, Plan, check_layers, make_salt
from experiments.models import Experiment, StoredReport, Variant
from experiments.models.experiments import change_config
from experiments.serving import forget_running
from retrieval import registry
from retrieval.engine.config import get_config
from retrieval.engine.types import EngineError
from retrieval.models import ModelVersion
from retrieval.setup import make_plan

KEPT_FIELDS = (
    "layer", "layer_from", "layer_to", "devices", "languages", "segments", "guardrail_margin", "worthwhile_lift",
)  # fmt: skip
MODELS = ("model", "reranker")  # what a variant may change for it to be promoted


class ExperimentError(EngineError):
    """An experiment that cannot be started or changed as asked; the message names the cause and the cure."""


@transaction.atomic
def start(experiment: Experiment) -> None:
    """Show the experiment to shoppers, everybody assigned anew; raises ExperimentError when it cannot be."""
    # All of them: two that start at once must see each other, or both take the same slots of a layer.
    locked = {one.pk: one for one in Experiment.objects.select_for_update().order_by("pk")}
    experiment = locked[experiment.pk]
    if experiment.is_running:
        raise ExperimentError(f"experiment {experiment.name} is running already")
    variants = list(experiment.variants.all())
    check_variants(experiment, variants)
    experiment.salt = make_salt()
    check_traffic(experiment, variants)
    experiment.variants.update(stopped_at=None, stop_reason="")
    # Another run, other visitors: what the one before found stands in exports, not in this result.
    experiment.visitor_days.all().delete()
    StoredReport.objects.filter(experiment=experiment).delete()
    experiment.status, experiment.started_at = Experiment.Status.RUNNING, timezone.now()
    experiment.stopped_at, experiment.stop_reason = None, ""
    experiment.save()
    transaction.on_commit(forget_running)


@transaction.atomic
def stop(experiment: Experiment, reason: str) -> None:
    """Show everybody the shop's own ranking again; one that does not run is left as it is."""
    stopped = Experiment.objects.filter(pk=experiment.pk, status=Experiment.Status.RUNNING).update(
        status=Experiment.Status.STOPPED, stopped_at=timezone.now(), stop_reason=reason
    )
    if stopped:
        transaction.on_commit(forget_running)


def stop_variant(variant: Variant, reason: str) -> None:
    """Show the variant's visitors the champion; with no other variant left, the experiment is over."""
    now = timezone.now()
    if not Variant.objects.filter(pk=variant.pk, stopped_at=None).update(stopped_at=now, stop_reason=reason):
        return
    if not variant.experiment.variants.filter(is_champion=False, stopped_at=None).exists():
        stop(variant.experiment, f"{variant.name} was stopped: {reason}")
    forget_running()


def stop_all(reason: str) -> int:
    """Stop every running experiment and return how many that were."""
    running = list(Experiment.objects.running())
    for experiment in running:
        stop(experiment, reason)
    return len(running)


@transaction.atomic
def make_ab_test(experiment: Experiment) -> Experiment:
    """Return a draft of an A/B test of an interleaving's variants, decided by conversion, with the whole traffic.

    Raises ExperimentError for what is no interleaving, and when there is one already.
    """
    if experiment.kind != Experiment.Kind.INTERLEAVING:
        raise ExperimentError(f"experiment {experiment.name} is an A/B test already: only an interleaving becomes one")
    name = f"{experiment.name}-ab"[: Experiment._meta.get_field("name").max_length]
    if Experiment.objects.filter(name=name).exists():
        raise ExperimentError(f"there is an experiment {name} already: start that one, or rename it")
    test = Experiment.objects.create(
        name=name,
        hypothesis=experiment.hypothesis,
        **{field: getattr(experiment, field) for field in KEPT_FIELDS},
    )
    for variant in experiment.variants.all():
        Variant.objects.create(
            experiment=test, name=variant.name, changes=variant.changes, is_champion=variant.is_champion
        )
    return test


def serve_winner(experiment: Experiment) -> Variant:
    """Show everybody what the winner of an A/B test shows, and return it; the experiment ends.

    Raises ExperimentError where its report names no winner, or that changes more than a model of this shop, and
    EngineError where the model cannot serve.
    """
    from retrieval.promotion import promote

    variant = find_winner(experiment)
    if variant is None:
        raise ExperimentError(f"the report of experiment {experiment.name} names no winner")
    [key, exported] = next(iter(variant.changes.items())) if len(variant.changes) == 1 else ("", "")
    version = ModelVersion.objects.filter(exported=exported).first() if key in MODELS and exported else None
    if version is None:
        raise ExperimentError(
            f"variant {variant.name} changes more than the model: add a config with its changes to CONFIGS in "
            "retrieval/engine/config.py, and name it in SEARCHSITE_CONFIG"
        )
    promote(version.kind, str(registry.folder_of(version.name)))
    stop(experiment, f"{variant.name} won, and serves everybody")
    return variant


def find_winner(experiment: Experiment) -> Variant | None:
    """Return the variant that the last report of an A/B test says wins, None without one."""
    content = StoredReport.objects.filter(experiment=experiment).values_list("content", flat=True).first() or {}
    if experiment.kind == Experiment.Kind.INTERLEAVING or content.get("state") != "winner":
        return None
    return experiment.variants.filter(name=content.get("variant", "")).first()


def check_variants(experiment: Experiment, variants: list[Variant]) -> None:
    """Raise ExperimentError unless there is one champion, something to compare it with, and an index for each."""
    if len(variants) < 2 or sum(variant.is_champion for variant in variants) != 1:
        raise ExperimentError(f"experiment {experiment.name} needs two variants or more, one of them the champion")
    if experiment.kind == Experiment.Kind.INTERLEAVING and len(variants) != 2:
        raise ExperimentError(f"experiment {experiment.name} interleaves {len(variants)} rankings, expected two")
    own = get_config(settings.SEARCHSITE["CONFIG"])
    for variant in variants:
        try:
            make_plan(change_config(own, variant.changes))
        except EngineError as error:
            raise ExperimentError(f"variant {variant.name} cannot be searched with: {error}") from error


def check_traffic(experiment: Experiment, variants: list[Variant]) -> None:
    """Raise ExperimentError when its visitors cannot be divided, or another one of its layer has them."""
    plans = {experiment.name: _to_plan(experiment, variants)}
    for other in Experiment.objects.running().exclude(pk=experiment.pk):
        plans[other.name] = _to_plan(other, list(other.variants.all()))
    try:
        check_layers(plans)
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def _to_plan(experiment: Experiment, variants: list[Variant]) -> Plan:
    arms: tuple[Arm, ...] = tuple(variant.to_arm() for variant in variants)
    try:
        return experiment.to_plan(arms)
    except ValueError as error:
        raise ExperimentError(f"experiment {experiment.name}: {error}") from error
