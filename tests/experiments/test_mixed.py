"""Two rankings shown as one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from experiments.mixed import DEPTH, is_mixable, search_mixed
from retrieval.engine.types import Hit, Ids, Query, Results, Sort


@dataclass(frozen=True)
class Ranked:
    """A ranking that is known."""

    product_ids: Sequence[int]
    notice: str = ""

    def rank(self, query: Query, most: int) -> Ids:
        return np.array(self.product_ids[:most], np.int64)

    def search(self, query: Query, shown: Sequence[int] | None = None) -> Results:
        start = (query.page - 1) * query.page_size
        product_ids = self.product_ids[start : start + query.page_size] if shown is None else shown
        hits = tuple(Hit(product_id, 1.0) for product_id in product_ids)
        return Results(hits, len(self.product_ids), notice=self.notice, timings_ms={"total": 0.0})


OURS, THEIRS = Ranked(list(range(1, 41))), Ranked([99, *range(40, 0, -1)])


def page(number: int, seed: str = "v1 mug") -> tuple[list[int], dict[int, str]]:
    results, teams = search_mixed(Query("mug", page=number, page_size=10), OURS, THEIRS, seed)
    assert results.total == 40
    assert results.timings_ms["total"] > 0
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
    assert sorted(found) == OURS.product_ids
    assert page(1) == page(1)


def test_what_both_rankings_put_first_is_of_neither_team():
    theirs = Ranked([1, 2, *range(40, 2, -1)])
    results, teams = search_mixed(Query("mug", page_size=4), OURS, theirs, "v1 mug")
    assert [hit.product_id for hit in results.hits][:2] == [1, 2]
    assert list(teams.values())[:2] == ["neither", "neither"]
    assert sorted(list(teams.values())[2:]) == ["a", "b"]


def test_what_the_champion_does_not_find_is_not_shown():
    assert all(99 not in page(number)[0] for number in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(replace(OURS, notice="Lesser."), THEIRS), (OURS, replace(THEIRS, notice="Lesser."))]
)
def test_beside_a_lesser_answer_the_champions_own_page_comes_back(ours: Ranked, theirs: Ranked):
    results, teams = search_mixed(Query("mug", page=2, page_size=10), ours, theirs, "v1")
    assert [hit.product_id for hit in results.hits] == list(range(11, 21))
    assert teams == {}


def test_only_what_rankings_decide_is_mixed():
    query = Query("mug")
    assert is_mixable(query)
    assert not is_mixable(Query(""))
    assert not is_mixable(replace(query, sort=Sort.PRICE_ASC))
    assert not is_mixable(replace(query, page=DEPTH))
