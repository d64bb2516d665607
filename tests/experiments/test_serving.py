"""Which ranking a visitor gets."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from django.db import DatabaseError

from experiments import serving
from experiments.assignment import Visitor
from experiments.models import Experiment, Variant
from experiments.segments import Segment, find_segment
from experiments.serving import choose, forget_running
from tests.experiments.log_factories import make_experiment

pytestmark = pytest.mark.django_db
VISITORS = [Visitor(f"visitor-{number}") for number in range(200)]


@pytest.fixture(autouse=True)
def _read_anew():
    forget_running()
    yield
    forget_running()


def choices(text: str = "mug") -> list[str]:
    return [choose(visitor, text).label for visitor in VISITORS]


def test_without_an_experiment_everybody_gets_the_shops_own_ranking():
    choice = choose(VISITORS[0], "mug")
    assert (choice.config.name, choice.label, choice.rival) == ("hybrid-rerank", "", None)


def test_visitors_are_divided_and_stay_where_they_are():
    make_experiment()
    first = choices()
    assert set(first) == {"ranking:a", "ranking:b"}
    assert 60 <= first.count("ranking:b") <= 140
    forget_running()
    assert choices() == first


def test_a_variant_changes_the_config_and_the_champion_leaves_it():
    make_experiment()
    found = {choose(visitor, "mug").label: choose(visitor, "mug").config for visitor in VISITORS}
    assert found["ranking:b"].dense_weight == 0.1
    assert found["ranking:b"].name == "ranking-b"
    assert found["ranking:a"].name == "hybrid-rerank"


def test_experiments_side_by_side_each_change_what_they_are_about():
    make_experiment("words")
    depth = make_experiment("depth")
    depth.variants.filter(name="b").update(changes={"depth": 50})
    both = [choose(visitor, "mug") for visitor in VISITORS]
    [changed, *_] = [one.config for one in both if one.label == "words:b depth:b"]
    assert (changed.dense_weight, changed.depth) == (0.1, 50)


def test_experiments_of_a_layer_share_no_visitor():
    make_experiment("one", layer="ranking", layer_from=0, layer_to=500)
    make_experiment("two", layer="ranking", layer_from=500, layer_to=1000)
    assert all(label.count(":") == 1 for label in choices())


def test_an_experiment_for_some_queries_leaves_the_others_alone():
    make_experiment(segments=["code"])
    assert set(choices("mug")) == {""}
    assert "ranking:b" in choices("rtx2060")


@pytest.mark.parametrize(
    ("text", "segment"),
    [("", Segment.BROWSE), ("???", Segment.BROWSE), ("p1005 2060", Segment.CODE), ("red mug", Segment.SHORT),
     ("canon p1005", Segment.SHORT), ("kettle for a small kitchen", Segment.LONG)],
)  # fmt: skip
def test_queries_fall_into_segments(text, segment):
    assert find_segment(text) is segment


def test_staff_can_see_a_variant_and_are_not_counted():
    make_experiment()
    choice = choose(VISITORS[0], "mug", {"ranking": "b"})
    assert (choice.config.dense_weight, choice.label) == (0.1, "")


def test_who_sees_a_forced_variant_counts_in_no_other_experiment():
    make_experiment("words", running=False)
    make_experiment("depth")
    assert choose(VISITORS[0], "mug").label.startswith("depth:")
    choice = choose(VISITORS[0], "mug", {"words": "b"})
    assert (choice.config.dense_weight, choice.label) == (0.1, "")


@pytest.mark.parametrize(("variant", "weight"), [("b", 0.1), ("a", 0.67), ("gone", 0.67)])
def test_who_takes_no_part_sees_what_is_forced_and_joins_nothing_else(variant, weight):
    make_experiment()
    make_experiment("depth").variants.update(changes={"depth": 50})
    choice = choose(VISITORS[0], "mug", {"ranking": variant}, takes_part=False)
    assert (choice.config.dense_weight, choice.config.depth, choice.label) == (weight, 1000, "")


@pytest.mark.parametrize("takes_part", [True, False])
def test_staff_can_see_a_variant_before_its_experiment_starts(takes_part):
    make_experiment("depth", running=False)
    stopped = make_experiment("stopped", running=False)
    Experiment.objects.filter(pk=stopped.pk).update(status=Experiment.Status.STOPPED)
    for forced, weight in (({}, 0.67), ({"depth": "gone"}, 0.67), ({"stopped": "b"}, 0.67), ({"depth": "b"}, 0.1)):
        choice = choose(VISITORS[0], "mug", forced, takes_part=takes_part)
        assert (choice.config.dense_weight, choice.label) == (weight, "")


def test_a_variant_that_was_stopped_shows_what_the_champion_shows():
    experiment = make_experiment()
    before = choices()
    experiment.variants.filter(name="b").update(stopped_at=experiment.started_at)
    forget_running()
    assert choices() == before
    assert {choose(visitor, "mug").config.name for visitor in VISITORS} == {"hybrid-rerank"}


def test_what_cannot_be_searched_with_is_passed_over():
    experiment = make_experiment()
    Variant.objects.filter(experiment=experiment, name="b").update(changes={"depth": -1})
    assert set(choices()) == {"ranking:a", ""}


def test_a_config_is_made_once_and_anew_when_its_variant_changes():
    experiment = make_experiment()
    forced = {"ranking": "b"}
    first = choose(VISITORS[0], "mug", forced).config
    forget_running()
    assert choose(VISITORS[1], "kettle", forced).config is first
    experiment.variants.filter(name="b").update(changes={"dense_weight": 0.2})
    forget_running()
    assert choose(VISITORS[0], "mug", forced).config.dense_weight == 0.2


def test_an_interleaving_experiment_has_both_rankings_for_everybody():
    make_experiment(kind=Experiment.Kind.INTERLEAVING)
    choice = choose(VISITORS[0], "mug")
    assert choice.rival is not None
    assert (choice.config.name, choice.rival.name, choice.label) == (
        "hybrid-rerank",
        "ranking-b",
        "ranking:interleaved",
    )


def test_a_test_beside_an_interleaving_changes_both_of_its_rankings():
    make_experiment(kind=Experiment.Kind.INTERLEAVING)
    depth = make_experiment("depth")
    depth.variants.filter(name="b").update(changes={"depth": 50})
    [choice, *_] = [one for one in (choose(visitor, "mug") for visitor in VISITORS) if "depth:b" in one.label]
    assert choice.rival is not None
    assert (choice.config.depth, choice.rival.depth) == (50, 50)
    assert (choice.config.dense_weight, choice.rival.dense_weight) == (0.67, 0.1)


def test_searches_ask_the_database_once_a_second(django_assert_num_queries):
    make_experiment()
    with django_assert_num_queries(2):
        choices()


def test_a_forked_child_reads_for_itself_what_runs(monkeypatch):
    with serving._running._lock:  # as a thread that reads holds it when another one forks
        child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(len(serving._running.get())))
        monkeypatch.setattr(serving, "read_running", lambda: [1, 2, 3])
        child.start()
        child.join(10)
        child.kill()
    assert child.exitcode == 3


def test_while_the_database_is_down_experiments_go_on(monkeypatch):
    make_experiment()
    before = choices()

    def fail():
        raise DatabaseError("gone")

    monkeypatch.setattr(serving, "read_running", fail)
    forget_running()
    assert choices() == before
