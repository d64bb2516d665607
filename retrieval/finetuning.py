"""The story of a training: from its sources to a model version with the gate's verdict. Brings torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import DatabaseError, transaction

from retrieval import live, trained_versions, training_files
from retrieval.embedding import Progress
from retrieval.engine.files import LockHeldError, hold_lock
from retrieval.engine.fusion import Floats
from retrieval.engine.types import EngineError
from retrieval.evaluation.gate import HELD_OUT, Verdict
from retrieval.indexing import export_models
from retrieval.judging import Court, convene, convene_few, decide
from retrieval.learners import make_learner
from retrieval.learning.export import export_encoder
from retrieval.learning.training import TrainingCancelledError, full_disk_told
from retrieval.lessons import Learner, Lesson
from retrieval.live import CROSS_ENCODER, TWO_TOWER, find_live
from retrieval.models import ModelVersion, TrainingRun
from retrieval.readers import export_reader
from retrieval.serving import serve_version
from retrieval.training_data import Amounts, Collected, collect
from retrieval.training_progress import OnProgress, Recorder, busy_database_told, pulse
from retrieval.training_runs import MOST_TRIES, WAITS, State, end, find_ahead, find_ended

logger = logging.getLogger(__name__)
LOCK = "LOCK"
WAIT_S = 1.0
CURVE_QUERIES = {TWO_TOWER: 200, CROSS_ENCODER: 50}  # of each 30 products or so are read


def _never() -> bool:
    return False


def run_training(
    run: TrainingRun,
    *,
    on_progress: OnProgress = lambda run: None,
    is_cancelled: Callable[[], bool] = _never,
    is_shutting_down: Callable[[], bool] = _never,
) -> TrainingRun:
    """Train and return the run as it ended: finished with its result, failed with the reason, or cancelled.

    Others go first while they are at it. A process that `is_shutting_down` leaves the run queued, to be gone on with.
    """
    recorder = Recorder(run, on_progress, lambda: is_cancelled() or is_shutting_down())
    try:
        with full_disk_told(training_files.folder_of(run.pk)), pulse(run), _turn(run, recorder):
            if ended := find_ended(run):
                return ended
            _check_tries(run)
            perform(run, recorder)
    except TrainingCancelledError:
        _end(run, State.QUEUED if is_shutting_down() else State.CANCELLED)
    except KeyboardInterrupt:
        _end(run, State.CANCELLED)
    except (EngineError, OSError) as error:
        _end(run, State.FAILED, str(error))
        logger.warning("training %s failed: %s", run.pk, error)
    except DatabaseError as error:  # its disk may be full
        _end(run, State.FAILED, f"the database refused what was to be written: {error}")
        logger.exception("training %s failed", run.pk)
    except BaseException as error:
        _end(run, State.FAILED, f"{type(error).__name__}: {error}")
        raise
    finally:
        training_files.forget_tries(run.pk)
    on_progress(run)
    return run


def _end(run: TrainingRun, state: str, error: str = "") -> None:
    """Note how the run ended; where the database takes nothing it seems interrupted, and is gone on with later."""
    with busy_database_told(run.pk):
        end(run, state, error)


@contextmanager
def _turn(run: TrainingRun, recorder: Recorder) -> Iterator[None]:
    """Wait until no other training is at work, telling which; then keep the others waiting."""
    while True:
        try:
            with hold_lock(training_files.trainings_dir() / LOCK, is_waiting=False):
                yield
                return
        except LockHeldError:
            ahead = find_ahead(run)
            recorder.enter(f"{WAITS} training {ahead.pk}" if ahead else f"{WAITS} another training")
            time.sleep(WAIT_S)


def _check_tries(run: TrainingRun) -> None:
    if training_files.count_try(run.pk) > MOST_TRIES:
        raise EngineError(
            f"the process of this training died {MOST_TRIES} times: it may need more memory than there is; try a "
            "smaller batch_size, or fewer products"
        )


def perform(run: TrainingRun, recorder: Recorder) -> None:
    """Collect, train, export, judge, and register the new version with its verdict as the run's result."""
    started = time.monotonic()
    folder = training_files.folder_of(run.pk)
    recorder.enter("exporting the models that serve")
    export_models()
    recorder.enter("collecting what to learn from")
    collected = _collect(run, folder, recorder)
    recorder.enter("preparing")
    lesson = Lesson(run, collected, folder / "work", recorder)
    learner = make_learner(lesson)
    few = convene_few(collected, _seed(run), most=CURVE_QUERIES[run.kind])

    def add_score(step: int, score: Callable[[Court], Mapping[str, Floats]]) -> None:
        if any(point[0] == step for point in run.scores):
            return  # measured before a kill
        recorder.enter(f"measuring on {len(few.sets[HELD_OUT])} held-out queries")
        recorder.add_score(step, _mean(score(few)))

    if few.sets[HELD_OUT]:
        learner.train(add_score)
    else:
        learner.train(lambda step, score: None)
    card = trained_versions.make_card(run, collected.report, learner.describe())
    target = trained_versions.write(run, card, lesson.folder)
    recorder.enter("exporting")
    exported = _export(run.kind, target)
    recorder.enter("judging: the new model beside the live one")
    verdict, metrics = _judge(run, collected, learner, exported)
    if few.sets[HELD_OUT]:
        recorder.add_score(run.steps_total, _mean(learner.score(few, exported)))
    seconds = {"seconds": round(time.monotonic() - started)}
    trained_versions.rewrite_card(target, replace(card, metrics={**card.metrics, **metrics, **seconds}))
    _finish(run, target, exported, verdict)
    training_files.forget(run.pk)


def _finish(run: TrainingRun, folder: Path, exported: Path, verdict: Verdict) -> None:
    """Register the version and note that the run is finished: both, or neither.

    Raises TrainingCancelledError where another process has ended the run.
    """
    try:
        with transaction.atomic():
            run.result = trained_versions.register(folder, exported, verdict)
            if not end(run, State.FINISHED):
                raise TrainingCancelledError("ended by another process")
    except BaseException:
        run.result = None
        raise


def _seed(run: TrainingRun) -> int:
    return int(run.settings.get("seed", 1))


def _collect(run: TrainingRun, folder: Path, recorder: Recorder) -> Collected:
    """Return what an earlier try of this run collected, or collect it and keep it for a later one."""
    if kept := training_files.load_collected(folder):
        return kept
    amounts = {name: run.settings[name] for name in Amounts.__slots__ if name in run.settings}
    collected = collect(
        [(name, weight) for name, weight in run.sources],
        _seed(run),
        amounts=Amounts(**amounts),
        on_source=lambda name: recorder.enter(f"collecting what to learn from: {name}"),
        on_part=recorder.go_on,
    )
    training_files.save_collected(folder, collected)
    return collected


def _mean(scores: Any) -> float:
    return float(scores[HELD_OUT].mean())


def _judge(
    run: TrainingRun, collected: Collected, learner: Learner, exported: Path
) -> tuple[Verdict, dict[str, float]]:
    """Return the gate's verdict, and the mean nDCG@10 of both models on the held-out queries."""
    court = convene(collected, [name for name, _ in run.sources], _seed(run))
    champion, challenger = learner.score(court, None), learner.score(court, exported)
    verdict = replace(decide(court, champion, challenger), champion=find_live(run.kind).version)
    if HELD_OUT not in champion:
        return verdict, {}
    return verdict, {"nDCG@10": _mean(challenger), "nDCG@10 before": _mean(champion)}


def _export(kind: str, folder: Path) -> Path:
    export = export_encoder if kind == TWO_TOWER else export_reader
    return export(str(folder), live.MODELS_DIR)


def promote_result(version: ModelVersion, on_progress: Progress = lambda build: None) -> bool:
    """Let the version serve if the gate let it pass, an index built for it first; return whether it does."""
    if not version.verdict.get("is_passed"):
        return False
    serve_version(version, on_progress)
    return True
