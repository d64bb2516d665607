"""What is left open of queries of which people rated a few products."""

from __future__ import annotations

from dataclasses import replace

from retrieval.learning import kin
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.kin import spare_kin
from retrieval.learning.negatives import find_spared
from tests.fakes import make_document

SHELVES = {"sewing/bobbins": (1, 2, 3), "sewing/threads": (4, 5), "": (6, 7)}
DOCUMENTS = {
    one: replace(make_document(one, f"product {one}"), category_path=path)
    for path, ids in SHELVES.items()
    for one in ids
}


def spare(grades: dict[int, float]) -> frozenset[int]:
    (query,) = spare_kin([LabelledQuery("under-thread spools", grades, "judgements:staff")], DOCUMENTS)
    return find_spared(query)


def test_the_kin_of_an_answer_is_no_negative_but_what_people_call_wrong_is():
    assert spare({1: 3.0}) == {1, 2, 3}
    assert spare({1: 3.0, 2: 0.0, 4: 2.0}) == {1, 3, 4}


def test_answers_of_several_categories_of_none_or_unknown_ones_have_no_kin():
    assert spare({1: 3.0, 4: 3.0}) == {1, 4}
    assert spare({6: 3.0}) == {6}
    assert spare({1: 1.0}) == frozenset()
    assert spare({99: 3.0}) == {99}


def test_a_large_category_says_too_little(monkeypatch):
    monkeypatch.setattr(kin, "MOST_KIN", 2)
    assert spare({1: 3.0}) == {1}
    assert spare({4: 3.0}) == {4, 5}
