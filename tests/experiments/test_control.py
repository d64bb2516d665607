"""Starting and stopping experiments."""

from __future__ import annotations

import pytest

from experiments import control
from experiments.control import ExperimentError, start, stop, stop_all, stop_variant
from experiments.models import Experiment
from retrieval.engine.types import IndexUnavailable
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
