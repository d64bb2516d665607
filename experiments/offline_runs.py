"""Evaluations from the page: asked for, queued, done by one worker at a time, and told of while they go."""

from __future__ import annotations

import logging
from functools import partial

from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from experiments import offline
from experiments.models import Experiment, OfflineEvaluation, OfflineRun
from experiments.models.offline import OfflineRunQuerySet
from retrieval.engine.config import SearchConfig
from retrieval.engine.types import EngineError
from retrieval.evaluation.judgements import JudgementsError
from retrieval.models import JudgementSet
from retrieval.setup import make_plan

State = OfflineRun.State
MOST_TRIES = 3  # workers that may die of an evaluation
logger = logging.getLogger(__name__)


class EvaluationUnderWayError(Exception):
    """Another evaluation is not done yet."""


class TakenOverError(Exception):
    """The run is no longer this worker's: another has it, or it was withdrawn or deleted."""


def ask(judgement_set: str, experiment: str = "") -> OfflineRun:
    """Return the evaluation of an experiment's variants, or of the shop's own search for '', queued for a worker.

    Asked for again before it is done, it is the same one. Raises JudgementsError for an unknown set or one without
    grades, EngineError for an unknown experiment or where no index can be searched, EvaluationUnderWayError while
    another one is not done.
    """
    found = offline.find_set(judgement_set)
    subject = offline.find_experiment(experiment) if experiment else None
    check(found, subject)
    try:
        with transaction.atomic():
            run = OfflineRun.objects.create(judgement_set=found, experiment=subject)
    except IntegrityError:
        return _join(found, subject)
    transaction.on_commit(partial(_send, run))
    return run


def check(judgement_set: JudgementSet, experiment: Experiment | None) -> None:
    """Raise JudgementsError or EngineError for what a worker would refuse later."""
    if not judgement_set.judgements.filter(grade__gt=0).exists():
        raise JudgementsError(
            f"judgement set {judgement_set.name!r} has no product graded above 0: import ratings, or grade some"
        )
    for config in list_configs(experiment).values():
        make_plan(config)


def list_configs(experiment: Experiment | None) -> dict[str, SearchConfig]:
    return offline.list_variants(experiment) if experiment else offline.list_configs([])


def _join(judgement_set: JudgementSet, experiment: Experiment | None) -> OfflineRun:
    """Return the open run if it is of the same; raises EvaluationUnderWayError for another one."""
    under_way = find_open()
    if under_way is None:  # done this very moment
        return ask(judgement_set.name, experiment.name if experiment else "")
    if (under_way.judgement_set, under_way.experiment) != (judgement_set, experiment):
        raise EvaluationUnderWayError(f"another evaluation is not done yet: {under_way}. Ask again when it is")
    return under_way


def find_open() -> OfflineRun | None:
    """Return the evaluation that waits or is under way."""
    return OfflineRun.objects.filter(is_open=True).select_related("judgement_set", "experiment").first()


def find_last() -> OfflineRun | None:
    """Return the evaluation that was asked for last."""
    return OfflineRun.objects.select_related("judgement_set", "experiment").first()


def withdraw(run_id: int, who: str) -> bool:
    """Take an evaluation back that waits; return whether it did."""
    waiting = OfflineRun.objects.filter(pk=run_id, is_open=True, state=State.QUEUED)
    return bool(waiting.update(is_open=False, state=State.FAILED, error=f"withdrawn by {who}"))


def _send(run: OfflineRun) -> None:
    from experiments.tasks import evaluate_offline

    try:
        evaluate_offline.delay(run.pk)
    except (OperationalError, OSError) as error:
        end(run, State.FAILED, error=f"the queue does not answer ({error}); start it, then ask again")
        logger.error("offline evaluation %s is not queued: %s", run.pk, error)


def queue_stale() -> int:
    """Queue again the evaluation whose message was lost or whose worker was killed; return how many there were."""
    waiting = list(OfflineRun.objects.stale())
    for run in waiting:
        if OfflineRun.objects.stale().filter(pk=run.pk).update(state=State.QUEUED, beat_at=timezone.now()):
            _send(run)
    return len(waiting)


# --- in the worker ------------------------------------------------------------------------------------


def evaluate(run_id: int) -> OfflineEvaluation | None:
    """Do what was asked for and keep it; None for what is done, withdrawn, in another worker's hands, or fails."""
    run = claim(run_id)
    if run is None:
        return None
    try:
        result = offline.evaluate(run.judgement_set, list_configs(run.experiment), run.experiment, partial(_beat, run))
    except TakenOverError as error:
        logger.warning("%s", error)
    except (EngineError, JudgementsError) as error:
        end(run, State.FAILED, error=str(error))
    except Exception:
        logger.exception("offline evaluation %s", run_id)
        end(run, State.FAILED, error="an error of the server, which its log tells")
    else:
        end(run, State.FINISHED, result=result)
        return result
    return None


def claim(run_id: int) -> OfflineRun | None:
    """Return the run, now running; None for one that is not to be done here."""
    with transaction.atomic():
        run = OfflineRun.objects.select_for_update().filter(pk=run_id, is_open=True).first()
        if run is None or (run.state == State.RUNNING and not run.is_stale):
            return None
        if run.tries >= MOST_TRIES:
            end(run, State.FAILED, error=f"{MOST_TRIES} workers died of it: ask for a smaller judgement set")
            return None
        run.state, run.tries, run.beat_at = State.RUNNING, run.tries + 1, timezone.now()
        run.save()
    return run


def _beat(run: OfflineRun, done: int, total: int) -> None:
    """Note how far the run is; raises TakenOverError where it is not ours any more."""
    progress = {"queries_done": done, "queries_total": total, "beat_at": timezone.now()}
    # Running again: a worker that was slow for long may have been taken for dead, and its run queued.
    if not _find_ours(run).update(state=State.RUNNING, **progress):
        raise TakenOverError(f"offline evaluation {run.pk} was taken over or withdrawn: this worker leaves it")


def end(run: OfflineRun, state: str, *, error: str = "", result: OfflineEvaluation | None = None) -> None:
    """Note how the evaluation ended; nothing for one that is not ours any more."""
    _find_ours(run).update(is_open=False, state=state, error=error[:2000], result=result)


def _find_ours(run: OfflineRun) -> OfflineRunQuerySet:
    """Return the run, unless a worker claimed it after `run` was read, or it is done."""
    return OfflineRun.objects.filter(pk=run.pk, is_open=True, tries=run.tries)
