"""Queries that gain and lose clicks in an experiment."""

from __future__ import annotations

import pytest

from experiments.queries import find_gains
from tests.experiments.log_factories import log_event, log_search, make_experiment

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
    with django_assert_num_queries(2):
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
