"""How trainings end when something is in their way: a full disk, a folder of their name, another process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from retrieval import finetuning, training_files, training_runs
from retrieval.finetuning import run_training
from retrieval.live import TWO_TOWER, find_live
from retrieval.models import ModelVersion, TrainingRun
from retrieval.registry import folder_of
from tests.retrieval.serving import fill_the_disk
from tests.retrieval.test_finetuning import base, begin, go_on, learning_shop  # noqa: F401

pytestmark = pytest.mark.django_db
SHORT: dict[str, Any] = {"rounds": 1, "steps": 1}


def fail_to_write(*arguments: Any) -> None:
    """Fail as OpenVINO does on a full disk."""
    raise RuntimeError("Check '!stream.fail()' failed at src/serialize.cpp:12: basic_ios::clear: iostream error")


@pytest.mark.parametrize(
    ("place", "refuse"),
    [
        ("retrieval.training_files.save_collected", fill_the_disk),
        ("retrieval.learning.versions._copy_part", fill_the_disk),
        ("retrieval.learning.export._convert", fail_to_write),
    ],
)
def test_a_full_disk_is_told_and_the_champion_goes_on_serving(learning_shop, monkeypatch, place, refuse):  # noqa: F811
    champion = find_live(TWO_TOWER)
    with monkeypatch.context() as patch:
        patch.setattr(place, refuse)
        run = run_training(begin(**SHORT, seed=len(place)))  # no other test has exported this model
    assert run.state == "failed"
    assert run.error.startswith("no space is left on the disk of ")
    assert find_live(TWO_TOWER) == champion
    assert not ModelVersion.objects.exists()
    run = go_on(run)
    assert run.result
    assert (run.state, run.result.name) == ("finished", f"two-tower-{run.pk}")


def test_a_database_that_takes_nothing_leaves_it_to_be_gone_on_with(learning_shop, monkeypatch, caplog):  # noqa: F811
    def refuse(*arguments: Any) -> None:
        raise OperationalError("database or disk is full")

    run = begin(**SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "end", refuse)
        patch.setattr(connection, "close", lambda: None)
        run = run_training(run)
    assert "database or disk is full" in caplog.text
    assert not ModelVersion.objects.exists(), "a version without a finished run"
    stored = TrainingRun.objects.get()
    assert stored.state == "running"
    TrainingRun.objects.update(beat_at=timezone.now() - timedelta(seconds=300))
    claimed = training_runs.claim(run.pk)
    assert claimed
    assert run_training(claimed).state == "finished"


def test_a_folder_that_no_row_knows_is_not_written_over(learning_shop):  # noqa: F811
    run = begin(**SHORT)
    theirs = folder_of(f"two-tower-{run.pk}") / "card.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("as an emptied database left it")
    run = run_training(run)
    assert run.result
    assert run.result.name == f"two-tower-{run.pk}.2"
    assert theirs.read_text() == "as an emptied database left it"


def test_one_that_was_cancelled_while_it_stood_still_leaves_no_version(learning_shop, monkeypatch):  # noqa: F811
    judge = finetuning._judge

    def stand_still(*arguments: Any) -> Any:
        TrainingRun.objects.update(state="cancelled")
        return judge(*arguments)

    run = begin(**SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "_judge", stand_still)
        assert run_training(run).state == "cancelled"
    assert not ModelVersion.objects.exists()
    assert training_files.folder_of(run.pk).is_dir()
    assert TrainingRun.objects.get().state == "cancelled"
