"""Starting and stopping experiments."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission

from experiments import control
from experiments.control import ExperimentError, make_ab_test, serve_winner, start, stop, stop_all, stop_variant
from experiments.models import Experiment, StoredReport
from retrieval import promotion, registry
from retrieval.engine.types import IndexUnavailable
from retrieval.models import ModelVersion
from tests.experiments.log_factories import make_experiment

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _an_index_for_every_config(monkeypatch):
    monkeypatch.setattr(control, "make_plan", lambda config: None)


def test_a_start_assigns_everybody_anew():
    experiment = make_experiment(running=False)
    salt = experiment.salt
    start(experiment)
    experiment.refresh_from_db()
    assert experiment.is_running
    assert experiment.started_at is not None
    assert experiment.salt != salt
    stop(experiment, "enough seen")
    start(experiment)
    again = Experiment.objects.get(pk=experiment.pk)
    assert again.salt != experiment.salt
    assert again.stop_reason == ""


def test_what_runs_is_not_started_again():
    with pytest.raises(ExperimentError, match="ranking is running already"):
        start(make_experiment())


@pytest.mark.parametrize("variants", [("a",)])
def test_one_variant_is_nothing_to_compare(variants):
    with pytest.raises(ExperimentError, match="needs two variants or more, one of them the champion"):
        start(make_experiment("alone", *variants, running=False))


def test_two_champions_or_none_are_refused():
    experiment = make_experiment(running=False)
    experiment.variants.update(is_champion=False)
    with pytest.raises(ExperimentError, match="one of them the champion"):
        start(experiment)


def test_more_than_two_rankings_are_not_interleaved():
    experiment = make_experiment("x", "a", "b", "c", running=False, kind=Experiment.Kind.INTERLEAVING)
    with pytest.raises(ExperimentError, match="interleaves 3 rankings, expected two"):
        start(experiment)


def test_a_variant_without_an_index_is_named(monkeypatch):
    def refuse(config):
        if config.dense_weight == 0.1:
            raise IndexUnavailable("no index serves model 'x'")

    monkeypatch.setattr(control, "make_plan", refuse)
    with pytest.raises(ExperimentError, match="variant b cannot be searched with: no index serves model 'x'"):
        start(make_experiment(running=False))


def test_experiments_of_a_layer_do_not_overlap():
    make_experiment("one", layer="ranking", layer_from=0, layer_to=600)
    two = make_experiment("two", running=False, layer="ranking", layer_from=500, layer_to=1000)
    with pytest.raises(ExperimentError, match="own slots 500 to 599 of layer 'ranking'"):
        start(two)


def test_weights_of_nothing_are_refused():
    experiment = make_experiment(running=False)
    experiment.variants.update(weight=0)
    with pytest.raises(ExperimentError, match="expected one above 0"):
        start(experiment)


def test_stopping_the_last_variant_ends_the_experiment():
    experiment = make_experiment("ranking", "a", "b", "c")
    b, c = experiment.variants.get(name="b"), experiment.variants.get(name="c")
    stop_variant(b, "too slow")
    assert Experiment.objects.get().is_running
    stop_variant(c, "loses sales")
    stop_variant(c, "again")
    ended = Experiment.objects.get()
    assert (ended.status, ended.stop_reason) == ("stopped", "c was stopped: loses sales")


def test_everything_can_be_stopped_at_once():
    make_experiment("one")
    make_experiment("two")
    assert stop_all("the shop is on sale") == 2
    assert stop_all("again") == 0
    assert set(Experiment.objects.values_list("stop_reason", flat=True)) == {"the shop is on sale"}


def test_an_interleaving_becomes_an_ab_test_of_the_same_question():
    settled: dict[str, Any] = {"worthwhile_lift": 0.2, "guardrail_margin": 0.1, "layer": "ranking", "layer_to": 500}
    experiment = make_experiment(kind=Experiment.Kind.INTERLEAVING, **settled)
    test = make_ab_test(experiment)
    assert (test.kind, test.status, test.metric) == ("ab", "draft", "conversion")
    assert {name: getattr(test, name) for name in settled} == settled
    changes = [(one.name, one.changes, one.is_champion) for one in test.variants.all()]
    assert changes == [(one.name, one.changes, one.is_champion) for one in experiment.variants.all()]
    with pytest.raises(ExperimentError, match="there is an experiment ranking-ab already"):
        make_ab_test(experiment)


def test_an_ab_test_is_not_made_another_one():
    with pytest.raises(ExperimentError, match="experiment ranking is an A/B test already"):
        make_ab_test(make_experiment())


def make_won(changes: dict[str, object], **content: str) -> Experiment:
    """Return a running experiment whose report says that b, which changes this, wins."""
    experiment = make_experiment()
    experiment.variants.filter(name="b").update(changes=changes)
    StoredReport.objects.create(experiment=experiment, content={"state": "winner", "variant": "b"} | content)
    return experiment


@pytest.mark.parametrize(("key", "kind"), [("model", "two-tower"), ("reranker", "cross-encoder")])
def test_a_winner_that_changes_the_model_serves_everybody_and_the_experiment_ends(key, kind, monkeypatch):
    promoted = []
    monkeypatch.setattr(promotion, "promote", lambda *model: promoted.append(model))
    ModelVersion.objects.create(name="spring", kind=kind, origin="trained", exported="spring-1234")
    experiment = make_won({key: "spring-1234"})
    assert serve_winner(experiment).name == "b"
    assert promoted == [(kind, str(registry.folder_of("spring")))]
    assert Experiment.objects.get().stop_reason == "b won, and serves everybody"


@pytest.mark.parametrize("changes", [{}, {"depth": 50}, {"model": "unknown"}, {"model": "spring-1234", "depth": 50}])
def test_a_winner_that_changes_more_than_a_model_is_not_promoted(changes):
    ModelVersion.objects.create(name="spring", kind="two-tower", origin="trained", exported="spring-1234")
    with pytest.raises(ExperimentError, match="variant b changes more than the model: add a config"):
        serve_winner(make_won(changes))
    assert Experiment.objects.get().is_running


def test_without_a_winner_nothing_is_promoted():
    with pytest.raises(ExperimentError, match="the report of experiment ranking names no winner"):
        serve_winner(make_won({"model": "spring-1234"}, state="not yet"))
    Experiment.objects.all().delete()
    with pytest.raises(ExperimentError, match="names no winner"):
        serve_winner(make_experiment())


def test_only_who_may_change_what_serves_sees_the_button(admin_client, client, django_user_model):
    make_won({"depth": 50}, sentence="b sells more.")
    reader = django_user_model.objects.create_user("analyst")
    reader.user_permissions.add(Permission.objects.get(codename="view_report"))
    client.force_login(reader)
    button = "Serve b's ranking to everybody"
    assert button not in client.get("/reports/ranking/").content.decode()
    page = admin_client.get("/reports/ranking/").content.decode()
    assert button in page
    address = page.split('<form method="post" action="')[1].split('"')[0]
    assert client.post(address).status_code in (302, 403)
    assert "variant b changes more than the model" in admin_client.post(address, follow=True).content.decode()
