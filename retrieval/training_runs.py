"""Trainings on record: asked for, claimed by one process, told of while they go, cancelled, gone on with."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from kombu.exceptions import OperationalError

from catalog.models import Product
from retrieval.engine.exported import EncoderError
from retrieval.engine.types import EngineError
from retrieval.learning.sources import resolve_model
from retrieval.live import CROSS_ENCODER, find_live, named_by_settings
from retrieval.models import JudgementSet, ModelVersion, TrainingRun
from retrieval.models.learning import INTERRUPTED_AFTER
from retrieval.registry import folder_of, resolve
from retrieval.training_data import default_sources
from retrieval.training_settings import TrainingRefused, check_settings, split_names
from retrieval.training_sources import CATALOGUE, FILE, JUDGEMENTS, NAMES, PSEUDO, SAMPLE

logger = logging.getLogger(__name__)
State = TrainingRun.State
OPEN = TrainingRun.OPEN
ENDED_EARLY = (State.FAILED, State.CANCELLED)
MOST_TRIES = 5  # processes that may die of a training
WAITS = "waits for"


def create_training(
    kind: str, sources: Sequence[tuple[str, float]] = (), settings: Mapping[str, Any] | None = None
) -> TrainingRun:
    """Return a new training that nobody works at yet. Sources: catalogue, pseudo, sample, judgements:NAME, file:PATH.

    Without sources: all that `default_sources` gives. Raises TrainingRefused for what cannot be, naming the choices.
    """
    cleaned = check_settings(kind, settings or {})
    cleaned.setdefault("base", _find_base(kind))
    chosen = [(name, float(weight)) for name, weight in sources or default_sources(kind)]
    check_sources(chosen)
    if kind == CROSS_ENCODER and PSEUDO in dict(chosen):
        raise TrainingRefused(f"{PSEUDO} is what a cross-encoder says: two towers alone learn from it; leave it out")
    _check_models(cleaned)
    _check_name(cleaned)
    return TrainingRun.objects.create(kind=kind, sources=[list(one) for one in chosen], settings=cleaned)


def _check_models(settings: Mapping[str, Any]) -> None:
    """Raise TrainingRefused for a model that is named and not there; what may be on the hub is seen when it is used."""
    named = [(name, settings[name]) for name in ("base", "teacher") if settings.get(name)]
    for name, model in named + [("average", model) for model in split_names(settings.get("average", ""))]:
        if not model:
            raise TrainingRefused(f"{name}={model!r}, expected the names of versions, parted by commas")
        try:
            found = resolve_model(resolve(model))
        except EncoderError as error:
            raise TrainingRefused(f"{name}: {error}") from error
        if name == "average" and isinstance(found, str):
            raise TrainingRefused(f"average={model!r}, expected a version or a folder; see: manage.py models list")


def _check_name(settings: Mapping[str, Any]) -> None:
    """Raise TrainingRefused for a name that another version has."""
    name = settings.get("name")
    if name and (ModelVersion.objects.filter(name=name).exists() or folder_of(name).exists()):
        raise TrainingRefused(f"name={name!r}: there is a model version of this name already; choose another")


def start_training(
    kind: str, sources: Sequence[tuple[str, float]] = (), settings: Mapping[str, Any] | None = None
) -> TrainingRun:
    """Return a new training, queued for a worker; otherwise as `create_training`."""
    run = create_training(kind, sources, settings)
    queue_training(run)
    run.refresh_from_db()
    return run


def _find_base(kind: str) -> str:
    """Return the live model's name, the default where there is none."""
    try:
        name = find_live(kind).name
    except EngineError:  # not exported yet
        name = named_by_settings(kind)
    return name or "default"


def check_sources(sources: Sequence[tuple[str, float]]) -> None:
    """Raise TrainingRefused for sources that are unknown, empty, named twice, or weigh nothing."""
    names = [name for name, _ in sources]
    if len(set(names)) < len(names):
        raise TrainingRefused(f"a source is named twice among {', '.join(names)}; name it once")
    for name, weight in sources:
        if not (math.isfinite(weight) and weight > 0):
            raise TrainingRefused(f"weight {weight:g} of {name!r}: expected a number above 0, or leave the source out")
        _check_source(name)


def _check_source(name: str) -> None:
    kind, _, rest = name.partition(":")
    if name == SAMPLE:
        return
    if name in (CATALOGUE, PSEUDO):
        if not Product.objects.active().exists():
            raise TrainingRefused("the catalogue has no product on sale; run: manage.py import_products FILE")
    elif kind == JUDGEMENTS and rest:
        if not JudgementSet.objects.filter(name=rest, judgements__isnull=False).exists():
            filled = JudgementSet.objects.filter(judgements__isnull=False).distinct().values_list("name", flat=True)
            choices = ", ".join(filled) or "none yet, import ratings first"
            raise TrainingRefused(f"no judgement set {rest!r} with judgements, expected one of: {choices}")
    elif kind == FILE and rest:
        if not Path(rest).expanduser().exists():
            raise TrainingRefused(f"there is no file {rest!r} to learn from")
    else:
        raise TrainingRefused(f"unknown source {name!r}, expected one of: {NAMES}")


# --- the queue ----------------------------------------------------------------------------------------


def queue_training(run: TrainingRun) -> None:
    """Have a worker train once the transaction is committed; it goes on where an earlier try ended.

    One that was cancelled meanwhile stays so.
    """
    TrainingRun.objects.filter(pk=run.pk, state__in=OPEN).update(
        state=State.QUEUED, error="", beat_at=timezone.now(), finished_at=None, phase=f"{WAITS} a worker"
    )
    transaction.on_commit(partial(_send, run.pk))


def _send(run_id: int) -> None:
    from retrieval.tasks import train_model

    try:
        train_model.delay(run_id)
    except (OperationalError, OSError) as error:
        told = f"The queue does not answer ({error}); start it, and this training begins within two minutes."
        TrainingRun.objects.filter(pk=run_id).update(error=told)
        logger.error("training %s is not queued: %s", run_id, error)


def queue_stale() -> int:
    """Queue again the trainings whose process died or whose message was lost; return how many they were."""
    before = timezone.now() - INTERRUPTED_AFTER
    if TrainingRun.objects.filter(state=State.RUNNING, beat_at__gte=before).exists():
        return 0  # the others' messages wait for it
    stale = TrainingRun.objects.filter(Q(state=State.RUNNING) | Q(state=State.QUEUED), beat_at__lt=before)
    waiting = list(stale.order_by("pk"))
    for run in waiting:
        queue_training(run)
    return len(waiting)


def claim(run_id: int) -> TrainingRun | None:
    """Return the run, now running; None for one that is done, deleted, or in another process's hands."""
    now, mine = timezone.now(), _unattended().filter(pk=run_id)
    mine.filter(is_cancel_requested=True).update(state=State.CANCELLED, phase="", finished_at=now)
    claimed = mine.update(
        state=State.RUNNING, error="", phase="starts", finished_at=None, beat_at=now,
        started_at=Coalesce("started_at", Value(now)),
    )  # fmt: skip
    return TrainingRun.objects.get(pk=run_id) if claimed else None


def _unattended() -> QuerySet[TrainingRun]:
    """Return the trainings that are not over and that no living process works at."""
    is_silent = Q(state=State.RUNNING, beat_at__lt=timezone.now() - INTERRUPTED_AFTER)
    return TrainingRun.objects.filter(Q(state=State.QUEUED) | is_silent)


# --- by hand ------------------------------------------------------------------------------------------


def cancel(run: TrainingRun) -> None:
    """Have the training stop within seconds, keeping what it has learned so far; nothing for one that is done.

    It is asked to stop first: a process that claims it this moment, or wakes up, is to see that.
    """
    TrainingRun.objects.filter(pk=run.pk, state__in=OPEN).update(is_cancel_requested=True)
    _unattended().filter(pk=run.pk).update(state=State.CANCELLED, error="", phase="", finished_at=timezone.now())
    run.refresh_from_db()


def can_go_on(run: TrainingRun) -> bool:
    return run.state in ENDED_EARLY or run.is_interrupted


def reopen(run: TrainingRun) -> TrainingRun:
    """Make a training that ended early ready to be gone on with; raises TrainingRefused for any other."""
    if not can_go_on(run):
        raise TrainingRefused(
            f"training {run.pk} is {run.state}: only one that failed or was stopped can be gone on with"
        )
    run.state, run.error, run.is_cancel_requested, run.finished_at = State.QUEUED, "", False, None
    run.save()
    return run


def find_resumable(kind: str) -> TrainingRun:
    """Return the last training of this kind that can be gone on with; raises TrainingRefused when there is none."""
    found = next((run for run in TrainingRun.objects.filter(kind=kind)[:50] if can_go_on(run)), None)
    if found is None:
        raise TrainingRefused(f"no {kind} training failed or was stopped: there is none to go on with")
    return found


def find_ahead(run: TrainingRun) -> TrainingRun | None:
    """Return the training that others wait for, None when none is at work."""
    since = timezone.now() - INTERRUPTED_AFTER
    at_work = TrainingRun.objects.filter(state=State.RUNNING, beat_at__gte=since).exclude(pk=run.pk)
    return at_work.exclude(phase__startswith=WAITS).order_by("started_at").first()


def find_ended(run: TrainingRun) -> TrainingRun | None:
    """Return the training as another process ended it, one that stood still and was thought dead; None else."""
    return TrainingRun.objects.filter(pk=run.pk).exclude(state__in=OPEN).first()


def end(run: TrainingRun, state: str, error: str = "") -> bool:
    """Note how the training ended and return true; one that another process ended, or deleted, is left as it is."""
    run.state, run.error, run.phase, run.finished_at = state, error[:2000], "", timezone.now()
    names = ("state", "error", "phase", "finished_at", "result", "losses", "scores", "steps_done", "steps_total")
    values = {name: getattr(run, name) for name in names}
    is_noted = bool(TrainingRun.objects.filter(pk=run.pk, state__in=OPEN).update(**values))
    if not is_noted and (ended := find_ended(run)):
        run.state, run.error, run.finished_at = ended.state, ended.error, ended.finished_at
    return is_noted
