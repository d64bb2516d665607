"""Queries that gain and lose clicks in an experiment."""

from __future__ import annotations

from datetime import timedelta

import pytest

from experiments.models import Variant, VisitorDay
from experiments.queries import find_gains
from tests.experiments.log_factories import MONDAY, log_event, log_search, make_experiment

pytestmark = pytest.mark.django_db


def search_often(text: str, variant: str, searches: int, clicked: int, skus: list[str]) -> None:
    for number in range(searches):
        search = log_search(f"{variant}-{number}", f"ranking:{variant}", text=text, hit_skus=skus)
        if number < clicked:
            log_event(search, "click")
            log_event(search, "click", "P2", 2)


def test_queries_are_told_by_what_the_variant_gains_and_loses():
    experiment = make_experiment()
    for text, ours, theirs in (("kettle", 2, 9), ("mug", 9, 1), ("sofa", 5, 5)):
        search_often(text, "a", 10, ours, ["P1", "P2"])
        search_often(text, "b", 10, theirs, ["P2", "P1"])
    found = find_gains(experiment, "a", ["b"])["b"]
    assert [one["text"] for one in found["gained"]] == ["kettle"]
    assert [one["text"] for one in found["lost"]] == ["mug"]
    [kettle] = found["gained"]
    assert (kettle["champion_rate"], kettle["variant_rate"]) == (0.2, 0.9)
    assert (kettle["champion_list"], kettle["variant_list"]) == (["P1", "P2"], ["P2", "P1"])


def test_the_log_is_read_as_often_for_many_variants_as_for_one(django_assert_num_queries):
    experiment = make_experiment("ranking", "a", "b", "c")
    for variant, clicked in (("a", 5), ("b", 9), ("c", 1)):
        search_often("kettle", variant, 10, clicked, [variant])
    with django_assert_num_queries(3):  # one of them the variants that were stopped
        found = find_gains(experiment, "a", ["b", "c"])
    [gained], [lost] = found["b"]["gained"], found["c"]["lost"]
    assert (gained["champion_list"], gained["variant_list"]) == (["a"], ["b"])
    assert (lost["champion_list"], lost["variant_list"]) == (["a"], ["c"])


def test_what_was_hardly_asked_leads_no_list():
    experiment = make_experiment()
    search_often("rare", "a", 2, 0, [])
    search_often("rare", "b", 2, 2, [])
    assert find_gains(experiment, "a", ["b"])["b"] == {"gained": [], "lost": []}


def test_few_searches_count_less_than_many():
    experiment = make_experiment()
    search_often("seldom", "a", 5, 2, [])
    search_often("seldom", "b", 5, 4, [])
    search_often("often", "a", 60, 24, [])
    search_often("often", "b", 60, 44, [])
    assert [one["text"] for one in find_gains(experiment, "a", ["b"])["b"]["gained"]] == ["often", "seldom"]


def test_programs_visitors_who_search_too_often_and_what_came_after_a_stop_gain_nothing():
    experiment = make_experiment()
    for text in ("kettle", "mug", "sofa"):
        search_often(text, "a", 10, 4, ["P1"])
        search_often(text, "b", 10, 4, ["P2"])
    for client_id, text, facts in (("program", "kettle", {}), ("tireless", "mug", {}), ("b-1", "sofa", {"day": 2})):
        for _ in range(30):
            log_event(log_search(client_id, "ranking:b", text=text, hit_skus=["P9"], **facts), "click")
    experiment.variants.filter(name="b").update(stopped_at=MONDAY + timedelta(days=1))
    sums = {"program": {"searches": 30, "clicks": 180}, "tireless": {"searches": 300, "clicks": 30}}
    for client_id, each in sums.items():
        VisitorDay.objects.create(experiment=experiment, variant="b", client_id=client_id, day=MONDAY.date(), **each)
    assert find_gains(experiment, "a", ["b"], most_searches=100)["b"] == {"gained": [], "lost": []}
    VisitorDay.objects.all().delete()
    Variant.objects.update(stopped_at=None)
    assert len(find_gains(experiment, "a", ["b"])["b"]["gained"]) == 3
