"""`manage.py finetune` and `train_reranker`: a training here or on the worker, and what they print."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from retrieval.models import ModelVersion, TrainingRun
from retrieval.tasks import train_model
from retrieval.training_command import TrainingCommand, split_source, to_table
from tests.retrieval.test_finetuning import PEFT_SAYS, base, learning_shop, reader  # noqa: F401

pytestmark = pytest.mark.django_db
FAST = ["--source", "judgements:shop", "--rounds", "1", "--steps", "2", "--batch-size", "8", "--max-tokens", "16"]


def run(command: str, *arguments: str) -> str:
    output = io.StringIO()
    call_command(command, *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def test_it_trains_here_and_prints_the_verdict(learning_shop):  # noqa: F811
    text = run("finetune", *FAST)
    training = TrainingRun.objects.get()
    assert training.result
    assert "held-out queries" in text
    assert training.result.verdict["reason"] in text
    assert "models promote" not in text  # the gate did not let it pass


def test_it_tells_the_same_as_json_and_promotes_only_what_passed(learning_shop):  # noqa: F811
    facts: dict[str, Any] = json.loads(run("finetune", *FAST, "--promote", "--json"))
    assert (facts["state"], facts["steps"], facts["settings"]["steps"]) == ("finished", 2, 2)
    assert facts["is_promoted"] == facts["verdict"]["is_passed"]
    assert facts["verdict"]["sets"][0]["name"] == "held-out queries"


def test_it_says_what_the_version_is_called_when_another_took_its_name(learning_shop, monkeypatch):  # noqa: F811
    def train(self: Any, run: TrainingRun) -> TrainingRun:
        run.state, run.result = "finished", ModelVersion(name="spring.2", kind="two-tower", verdict={})
        return run

    monkeypatch.setattr(TrainingCommand, "_train", train)
    assert "It is called spring.2: another took the name spring meanwhile." in run(
        "finetune", *FAST, "--name", "spring"
    )


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_a_cross_encoder_is_trained_by_its_own_command(learning_shop, reader):  # noqa: F811
    options = ["--steps", "2", "--lists", "2", "--list-size", "4", "--layers", "0", "--loss", "listwise"]
    facts = json.loads(run("train_reranker", "--source", "judgements:shop=2", "--base", reader, *options, "--json"))
    assert facts["sources"] == [["judgements:shop", 2.0]]
    assert facts["settings"]["layers"] == [0]
    assert facts["version"].startswith("cross-encoder-")


def test_the_worker_is_handed_it(learning_shop, monkeypatch, django_capture_on_commit_callbacks):  # noqa: F811
    sent: list[int] = []
    monkeypatch.setattr(train_model, "delay", sent.append)
    with django_capture_on_commit_callbacks(execute=True):
        text = run("finetune", *FAST, "--queue")
    training = TrainingRun.objects.get()
    assert (sent, training.state) == ([training.pk], "queued")
    assert f"Training {training.pk} is queued" in text


def test_one_that_was_stopped_is_gone_on_with(learning_shop):  # noqa: F811
    settings = {"base": "default", "rounds": 1}
    stopped = TrainingRun.objects.create(state="cancelled", sources=[["judgements:shop", 1.0]], settings=settings)
    with pytest.raises(CommandError, match="--resume goes on with the settings"):
        run("finetune", "--resume", "--rounds", "2")
    with pytest.raises(CommandError, match="there is no two-tower training 999"):
        run("finetune", "--resume", "999")
    with pytest.raises(CommandError, match="no cross-encoder training failed or was stopped"):
        run("train_reranker", "--resume")
    stopped.state = "finished"
    stopped.save()
    with pytest.raises(CommandError, match=f"training {stopped.pk} is finished"):
        run("finetune", "--resume", str(stopped.pk))


def test_errors_name_the_value_and_the_choices(learning_shop):  # noqa: F811
    with pytest.raises(CommandError, match="unknown source 'clicks', expected one of: catalogue, pseudo, sample"):
        run("finetune", "--source", "clicks")
    with pytest.raises(CommandError, match="expected NAME or NAME=WEIGHT"):
        run("finetune", "--source", "sample=much")
    with pytest.raises(CommandError, match="rounds=0, expected 1 to 100"):
        run("finetune", "--source", "sample", "--rounds", "0")
    with pytest.raises(CommandError, match="--queue and --promote"):
        run("finetune", "--queue", "--promote")
    assert not TrainingRun.objects.exists()


def test_a_name_may_hold_the_sign_of_its_weight():
    assert split_source("judgements:a=b=2") == ("judgements:a=b", 2.0)
    assert split_source("catalogue") == ("catalogue", 1.0)


def test_a_verdict_without_sets_is_an_empty_table():
    assert to_table({}).row_count == 0
