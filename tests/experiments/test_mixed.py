"""Two rankings shown as one page."""

from __future__ import annotations

from dataclasses import replace

from experiments.mixed import DEPTH, is_mixable, search_mixed
from retrieval.engine.config import SearchConfig
from retrieval.engine.types import Hit, Query, Results, Sort

OURS, RIVAL = SearchConfig(name="ours"), SearchConfig(name="theirs")
RANKINGS = {"ours": list(range(1, 41)), "theirs": [99, *range(40, 0, -1)]}


def search(query: Query, config: SearchConfig, notice: str = "") -> Results:
    start = (query.page - 1) * query.page_size
    hits = [Hit(product_id, 1.0) for product_id in RANKINGS[config.name][start : start + query.page_size]]
    return Results(tuple(hits), 40, notice=notice)


def page(number: int, seed: str = "v1 mug") -> tuple[list[int], dict[int, str]]:
    results, teams = search_mixed(Query("mug", page=number, page_size=10), OURS, RIVAL, seed, search)
    assert results.total == 40
    return [hit.product_id for hit in results.hits], teams


def test_both_rankings_are_on_the_page_and_each_product_has_a_team():
    found, teams = page(1)
    assert len(found) == 10
    assert list(teams) == found
    assert list(teams.values()).count("a") == list(teams.values()).count("b") == 5
    assert {1, 2} < set(found)
    assert {40, 39} < set(found)


def test_pages_go_on_where_the_one_before_ended_and_show_everything_once():
    found = [product_id for number in (1, 2, 3, 4) for product_id in page(number)[0]]
    assert sorted(found) == RANKINGS["ours"]
    assert page(1) == page(1)


def test_what_the_champion_does_not_find_is_not_shown():
    assert all(99 not in page(number)[0] for number in (1, 2, 3, 4))


def test_without_an_index_the_champions_own_page_comes_back():
    def degraded(query: Query, config: SearchConfig) -> Results:
        return search(query, config, notice="The index is being rebuilt.")

    results, teams = search_mixed(Query("mug", page=2, page_size=10), OURS, RIVAL, "v1", degraded)
    assert [hit.product_id for hit in results.hits] == list(range(11, 21))
    assert teams == {}


def test_only_what_rankings_decide_is_mixed():
    query = Query("mug")
    assert is_mixable(query)
    assert not is_mixable(Query(""))
    assert not is_mixable(replace(query, sort=Sort.PRICE_ASC))
    assert not is_mixable(replace(query, page=DEPTH))
