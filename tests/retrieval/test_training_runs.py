"""Trainings on record: refused, queued, claimed once, told of while they go, cancelled, gone on with."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from retrieval import registry, training_files, training_runs
from retrieval.engine.types import Document
from retrieval.evaluation.rating_files import Rating
from retrieval.judgement_files import import_ratings
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.training import TrainingCancelledError
from retrieval.models import JudgementSet, ModelVersion, TrainingRun
from retrieval.tasks import resume_trainings, train_model
from retrieval.training_data import Collected
from retrieval.training_progress import MOST_POINTS, Recorder, pulse
from retrieval.training_settings import TrainingRefused, check_settings
from tests.factories import make_product
from tests.fakes import make_document

pytestmark = pytest.mark.django_db
State = TrainingRun.State


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """The runs whose message was sent."""
    ids: list[int] = []
    monkeypatch.setattr(train_model, "delay", ids.append)
    return ids


def make_run(state: str = State.QUEUED, *, silent_s: int = 0, **facts: Any) -> TrainingRun:
    run = TrainingRun.objects.create(state=state, sources=[["sample", 1.0]], **facts)
    TrainingRun.objects.filter(pk=run.pk).update(beat_at=timezone.now() - timedelta(seconds=silent_s))
    run.refresh_from_db()
    return run


# --- asked for ----------------------------------------------------------------------------------------


def test_a_training_is_queued_once_the_transaction_is_committed(sent, django_capture_on_commit_callbacks):
    make_product("Red mug")
    with django_capture_on_commit_callbacks(execute=True):
        run = training_runs.start_training("two-tower", [("catalogue", 1)], {"rounds": 1})
        assert sent == []
    assert sent == [run.pk]
    assert (run.state, run.sources, run.phase) == ("queued", [["catalogue", 1.0]], "waits for a worker")
    assert run.settings == {"rounds": 1, "base": "default"}


def test_without_sources_it_learns_from_all_the_shop_has(sent):
    make_product("Red mug", sku="M1")
    import_ratings("shop", [Rating("mug", "M1", 3.0)])
    run = training_runs.start_training("two-tower")
    assert run.sources == [["catalogue", 1.0], ["judgements:shop", 2.0]]


@pytest.mark.parametrize(
    ("kind", "sources", "asked", "told"),
    [
        ("three-tower", ["sample"], {}, "unknown kind of model 'three-tower', expected one of: two-tower"),
        ("two-tower", ["sample"], {"epochs": 3}, "unknown setting 'epochs', expected one of: base, batch_size"),
        ("two-tower", ["sample"], {"towers": "both"}, "unknown towers 'both', expected one of: tied, untied"),
        ("two-tower", ["sample"], {"rounds": 0}, "rounds=0, expected 1 to 100"),
        ("two-tower", ["sample"], {"rounds": 1.5}, "rounds=1.5, expected a whole number"),
        ("two-tower", ["sample"], {"full": "yes"}, "full='yes', expected true or false"),
        ("two-tower", ["sample"], {"layers": [0]}, "unknown setting 'layers'"),
        ("two-tower", ["sample"], {"full": True, "lora_rank": 8}, "full trains all weights and lora_rank sizes"),
        ("cross-encoder", ["sample"], {"layers": "0,x"}, "layers='0,x', expected numbers such as 0,2,4"),
        ("cross-encoder", ["sample"], {"layers": "2,0"}, "expected different numbers from 0 in their order"),
        ("cross-encoder", ["sample"], {"loss": "distilled"}, "learns from a teacher"),
        ("two-tower", ["clicks"], {}, "unknown source 'clicks', expected one of: catalogue, pseudo, sample"),
        ("two-tower", ["catalogue"], {}, "the catalogue has no product on sale"),
        ("two-tower", ["judgements:old"], {}, "no judgement set 'old' with judgements, expected one of: none yet"),
        ("two-tower", ["file:/not/there"], {}, "there is no file '/not/there'"),
        ("two-tower", ["sample", "sample"], {}, "a source is named twice among sample, sample"),
    ],
)
def test_what_cannot_be_is_refused_with_the_choices(kind, sources, asked, told):
    with pytest.raises(TrainingRefused, match=told.replace("(", r"\(")):
        training_runs.start_training(kind, [(name, 1.0) for name in sources], asked)
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize("is_on_record", [True, False])
def test_a_name_that_is_taken_is_refused(is_on_record):
    if is_on_record:
        ModelVersion.objects.create(name="spring", kind="two-tower", origin="trained", base="default")
    else:
        registry.folder_of("spring").mkdir(parents=True)
    with pytest.raises(TrainingRefused, match="name='spring': there is a model version of this name already; choose"):
        training_runs.start_training("two-tower", [("sample", 1)], {"name": "spring"})
    assert not TrainingRun.objects.exists()


def test_an_empty_judgement_set_and_a_weight_of_nothing_are_refused():
    JudgementSet.objects.create(name="empty")
    with pytest.raises(TrainingRefused, match="no judgement set 'empty' with judgements"):
        training_runs.start_training("two-tower", [("judgements:empty", 1)])
    with pytest.raises(TrainingRefused, match="weight 0 of 'sample'"):
        training_runs.start_training("two-tower", [("sample", 0)])


def test_a_teacher_is_learned_from_and_settings_left_open_are_left_out():
    settings = check_settings("cross-encoder", {"teacher": "big", "steps": None, "layers": "0,2,4", "rerank_blend": 1})
    assert settings == {"teacher": "big", "layers": [0, 2, 4], "loss": "distilled", "rerank_blend": 1.0}


def test_a_queue_that_is_down_leaves_the_run_queued_and_tells_the_cure(monkeypatch, django_capture_on_commit_callbacks):
    def refuse(run_id: int) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(train_model, "delay", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        run = training_runs.start_training("two-tower", [("sample", 1)])
    run.refresh_from_db()
    assert run.state == "queued"
    assert "The queue does not answer (connection refused); start it" in run.error


# --- claimed and queued again -------------------------------------------------------------------------


def test_a_run_is_claimed_once():
    run = make_run()
    claimed = training_runs.claim(run.pk)
    assert claimed is not None
    assert (claimed.state, claimed.started_at is not None) == ("running", True)
    assert training_runs.claim(run.pk) is None
    assert training_runs.claim(run.pk + 1) is None


@pytest.mark.parametrize("state", [State.FINISHED, State.FAILED, State.CANCELLED])
def test_a_run_that_ended_is_not_claimed(state):
    assert training_runs.claim(make_run(state).pk) is None


def test_a_run_whose_process_died_is_queued_again_and_claimed(sent, django_capture_on_commit_callbacks):
    killed, lost = make_run(State.RUNNING, silent_s=300), make_run(silent_s=300)
    make_run(), make_run(State.FAILED, silent_s=300)
    with django_capture_on_commit_callbacks(execute=True):
        assert resume_trainings() == 2
    assert sent == [killed.pk, lost.pk]
    with django_capture_on_commit_callbacks(execute=True):
        assert resume_trainings() == 0
    assert training_runs.claim(killed.pk) is not None


def test_what_waits_is_not_queued_again_while_another_training_is_at_work(sent):
    make_run(State.RUNNING)
    make_run(silent_s=300)
    assert resume_trainings() == 0


def test_trainings_are_sent_to_a_queue_of_their_own(settings):
    assert settings.CELERY_TASK_ROUTES[train_model.name] == {"queue": "learn"}
    assert settings.CELERY_BEAT_SCHEDULE["resume-trainings"]["task"] == resume_trainings.name


# --- by hand ------------------------------------------------------------------------------------------


def test_a_run_that_nobody_works_at_is_cancelled_at_once_one_at_work_is_asked_to_stop():
    waiting, silent, busy = make_run(), make_run(State.RUNNING, silent_s=300), make_run(State.RUNNING)
    for run in (waiting, silent, busy):
        training_runs.cancel(run)
        run.refresh_from_db()
    assert [run.state for run in (waiting, silent, busy)] == ["cancelled", "cancelled", "running"]
    assert busy.is_cancel_requested
    assert Recorder(busy).is_cancelled()


def test_one_that_is_claimed_while_it_is_cancelled_stops(monkeypatch):
    run, refresh = make_run(), TrainingRun.refresh_from_db

    def claim_meanwhile(self: TrainingRun, *arguments: Any, **options: Any) -> None:
        refresh(self, *arguments, **options)
        training_runs.claim(self.pk)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "refresh_from_db", claim_meanwhile)
        training_runs.cancel(run)
    run.refresh_from_db()
    assert run.is_cancel_requested
    assert Recorder(run).is_cancelled()


def test_one_that_was_cancelled_while_it_stood_still_wakes_up_to_stop():
    silent = make_run(State.RUNNING, silent_s=300)
    recorder = Recorder(silent)
    training_runs.cancel(TrainingRun.objects.get(pk=silent.pk))
    assert recorder.is_cancelled()
    assert not training_runs.end(silent, State.FINISHED)
    assert silent.state == "cancelled"
    silent.refresh_from_db()
    assert (silent.state, silent.phase) == ("cancelled", "")


def test_one_whose_process_died_while_it_was_asked_to_stop_does_not_begin_again(sent):
    run = make_run(State.RUNNING, silent_s=60)
    training_runs.cancel(run)
    TrainingRun.objects.update(beat_at=timezone.now() - timedelta(seconds=300))
    assert training_runs.queue_stale() == 1
    assert training_runs.claim(run.pk) is None
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_only_what_ended_early_is_gone_on_with():
    stopped = make_run(State.CANCELLED, is_cancel_requested=True, error="x")
    reopened = training_runs.reopen(stopped)
    assert (reopened.state, reopened.is_cancel_requested, reopened.error) == ("queued", False, "")
    with pytest.raises(TrainingRefused, match="is finished"):
        training_runs.reopen(make_run(State.FINISHED))
    with pytest.raises(TrainingRefused, match="no cross-encoder training failed or was stopped"):
        training_runs.find_resumable("cross-encoder")
    last = make_run(State.FAILED)
    make_run(State.FINISHED)
    assert training_runs.find_resumable("two-tower") == last


def test_others_wait_for_the_one_at_work():
    at_work, waiting = make_run(State.RUNNING, phase="learning"), make_run(State.RUNNING, phase="waits for training 1")
    assert training_runs.find_ahead(waiting) == at_work
    assert training_runs.find_ahead(at_work) is None


# --- while it goes ------------------------------------------------------------------------------------


def test_curves_are_thinned_to_means(monkeypatch):
    run = make_run(State.RUNNING)
    recorder = Recorder(run)
    for step in range(1, 1001):
        recorder.add_step(step, 1000, float(step))
    recorder.save()
    run.refresh_from_db()
    assert len(run.losses) == MOST_POINTS
    assert run.losses[:2] == [[2, 1.5], [4, 3.5]]
    assert (run.steps_done, run.steps_total, run.share_done) == (1000, 1000, 1.0)


def test_what_is_learned_again_after_a_kill_replaces_what_was_told():
    run = make_run(State.RUNNING, losses=[[1, 4.0], [2, 3.0], [3, 2.0]], scores=[[0, 0.1], [3, 0.2]])
    Recorder(run).add_step(2, 4, 2.5)
    assert (run.losses, run.scores) == ([[1, 4.0], [2, 2.5]], [[0, 0.1]])


def test_a_loss_that_is_no_number_is_not_drawn():
    run = make_run(State.RUNNING)
    Recorder(run).add_step(1, 2, float("nan"))
    assert run.losses == []


def test_it_is_written_at_most_once_a_second(monkeypatch, django_assert_num_queries):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    recorder = Recorder(make_run(State.RUNNING))
    recorder.is_cancelled()
    with django_assert_num_queries(0):
        for step in range(50):
            recorder.add_step(step + 1, 100, 1.0)
            assert not recorder.is_cancelled()
    now[0] += 1.0
    with django_assert_num_queries(2):  # written, and asked whether it is to stop
        recorder.is_cancelled()


def test_the_time_left_is_told_with_the_phase(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = make_run(State.RUNNING)
    recorder = Recorder(run)
    recorder.tell_phase("learning")
    recorder.add_step(1, 101, 1.0)
    now[0] += 60
    recorder.add_step(11, 101, 1.0)  # 10 steps a minute, 90 to go
    assert run.phase == "learning, about 9 min left"


def test_it_is_told_how_much_of_a_phase_is_done_and_how_long_the_rest_takes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    run = make_run(State.RUNNING)
    recorder = Recorder(run)
    recorder.tell_phase("embedding")
    now[0] += 500  # models are loaded
    recorder.go_on(0, 400)
    assert run.phase == "embedding, 0 %"
    now[0] += 60
    recorder.go_on(100, 400)
    assert run.phase == "embedding, 25 %, about 3 min left"
    recorder.go_on(400, 400)
    assert run.phase == "embedding, 100 %"
    now[0] += 10
    recorder.go_on(0, 400)  # the other model's
    now[0] += 20
    recorder.go_on(200, 400)
    assert run.phase == "embedding, 50 %, about 20 s left"
    recorder.tell_phase("learning")
    assert run.phase == "learning"


def test_a_part_of_a_phase_can_be_cancelled():
    run = make_run(State.RUNNING)
    recorder = Recorder(run)
    recorder.go_on(1, 2)
    TrainingRun.objects.update(is_cancel_requested=True)
    with pytest.raises(TrainingCancelledError):
        Recorder(run).go_on(2, 2)


@pytest.mark.django_db(transaction=True)
def test_a_long_step_gives_signs_of_life():
    run = make_run(State.RUNNING, silent_s=100)
    silent_since = run.beat_at
    with pulse(run, interval_s=0.01):
        for _ in range(500):
            run.refresh_from_db()
            if run.beat_at > silent_since:
                break
            time.sleep(0.01)
    assert run.beat_at > silent_since


def test_a_run_that_was_deleted_stops():
    run = make_run(State.RUNNING)
    recorder = Recorder(run)
    TrainingRun.objects.all().delete()
    assert recorder.is_cancelled()
    training_runs.end(run, State.CANCELLED)
    assert not TrainingRun.objects.exists()


def test_what_was_collected_is_kept_for_a_later_try(folder):
    document: Document = make_document(3, "Red mug", category=("Home", "Mugs"), attributes={"Colour": "red"})
    query = LabelledQuery("red mug", {3: 3.0, -4: 0.0}, "judgements:shop", 2.0)
    collected = Collected([query], [], {3: document}, {"queries": 1})
    assert training_files.load_collected(training_files.folder_of(7)) is None
    training_files.save_collected(training_files.folder_of(7), collected)
    assert training_files.load_collected(training_files.folder_of(7)) == collected
    training_files.forget(7)
    assert not (folder / "trainings" / "7").exists()


def test_a_busy_database_ends_no_training(monkeypatch, caplog):
    run = TrainingRun.objects.create()
    recorder = Recorder(run)

    def fail(*arguments, **values):
        raise DatabaseError("database is locked")

    monkeypatch.setattr(QuerySet, "update", fail)
    monkeypatch.setattr(QuerySet, "first", fail)
    monkeypatch.setattr(connection, "close", lambda: None)
    recorder.tell_phase("learning")
    assert not recorder.is_cancelled()
    assert "database is locked" in caplog.text
