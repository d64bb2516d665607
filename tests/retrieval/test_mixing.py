"""Sources made one training set: shares, doubles, contradictions, and what is refused."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from retrieval.learning.examples import LabelledQuery
from retrieval.learning.mixing import TrainingDataError, check, check_agreement, hash_of, merge, mix


def label(text: str, source: str = "s", weight: float = 1.0, **grades: float) -> LabelledQuery:
    """Return a query with grades by product, p1=3 for product 1."""
    return LabelledQuery(text, {int(name[1:]): grade for name, grade in grades.items()}, source, weight)


def share(queries: list[LabelledQuery], source: str) -> float:
    return sum(query.weight for query in queries if query.source == source) / sum(query.weight for query in queries)


def test_each_source_has_its_share_whatever_its_size():
    small = [label(f"mug {n}", "small") for n in range(3)]
    large = [label(f"lamp {n}", "large") for n in range(600)]
    mixed = mix({"small": small, "large": large}, {"small": 2, "large": 1})
    assert share(mixed, "small") == pytest.approx(2 / 3)
    assert sum(query.weight for query in mixed) == pytest.approx(603)
    drawn = random.Random(1).choices(mixed, [query.weight for query in mixed], k=6000)
    assert Counter(query.source for query in drawn)["small"] == pytest.approx(4000, abs=150)


def test_queries_of_one_source_keep_their_weights_beside_each_other():
    often, seldom = mix({"s": [label("mug", weight=3), label("cup", weight=1)]}, {"s": 5})
    assert (often.weight, seldom.weight) == (1.5, 0.5)


def test_a_source_without_queries_leaves_its_share_to_the_others():
    mixed = mix({"a": [label("mug", "a")], "b": []}, {"a": 1, "b": 9})
    assert [query.weight for query in mixed] == [1.0]


def test_a_query_of_two_sources_is_one_where_the_heavier_has_the_say():
    merged = merge(
        {"light": [label("Red  MUG", "light", p1=0, p2=1)], "heavy": [label("red mug", "heavy", p1=3, p3=0)]},
        {"light": 1, "heavy": 2},
    )
    assert merged.sources["light"] == []
    (query,) = merged.sources["heavy"]
    assert (query.text, dict(query.grades)) == ("red mug", {1: 3, 2: 1, 3: 0})
    assert (merged.shared, merged.contradicted) == (1, 1)


def test_of_a_query_that_one_source_does_not_know_whole_nothing_ungraded_is_wrong():
    whole = LabelledQuery("mug", {-1: 3.0}, "sample", is_complete=True)
    merged = merge({"sample": [whole], "ratings": [label("mug", "ratings", p1=3)]}, {"sample": 2, "ratings": 1})
    assert not merged.sources["sample"][0].is_complete
    assert merge({"sample": [whole]}, {"sample": 1}).sources["sample"][0].is_complete


def test_among_equals_the_first_has_the_say():
    merged = merge({"a": [label("mug", "a", p1=3)], "b": [label("Mug", "b", p1=0)]}, {"a": 1, "b": 1})
    assert dict(merged.sources["a"][0].grades) == {1: 3}


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_give_no_share_are_refused(weight):
    with pytest.raises(TrainingDataError, match=r"of 's': expected a number above 0"):
        mix({"s": [label("mug")]}, {"s": weight})


GOOD = [label(f"mug {n}", p1=3, p2=0) for n in range(8)]


def test_what_can_be_learned_from_passes():
    check(GOOD, {1, 2})


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], "there is no query to learn from: import ratings, or learn from the catalogue"),
        (GOOD[:7], r"7 of 7 queries have both a product that answers them \(graded 3\) and one .*; at least 8"),
        ([*GOOD[:7], label("cup", p1=3), label("pot", p1=2, p2=0)], "7 of 9 queries have both"),
        ([label(f"mug {n}", p1=3) for n in range(20)], "every product is graded 3, which tells no right from wrong"),
        ([*GOOD, label("cup", p1=3, p7=0)], "1 graded products are not in the catalogue, such as 7: import it"),
        ([*GOOD, label("MUG 1", p1=0)], r"1 of 16 pairs .* graded both 3 and 0, such as 'mug 1' and product 1: keep"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused_with_the_cure(queries, message):
    with pytest.raises(TrainingDataError, match=message):
        check(queries, {1, 2})


def test_a_few_contradictions_are_no_reason_to_refuse():
    many = [label(f"mug {n}", p1=3, p2=0) for n in range(20)]
    check_agreement([*many, label("MUG 1", p1=0)], "ratings")  # 1 pair of 40
    with pytest.raises(TrainingDataError, match="2 of 40 pairs in ratings"):
        check_agreement([*many, label("MUG 1", p1=0, p2=3)], "ratings")
    check_agreement([*GOOD, label("MUG 1", p1=1)])  # near is not against exact


def test_the_hash_is_of_what_is_learned_not_of_its_order():
    queries = [label("mug", p1=3, p2=0), label("cup", p3=2)]
    assert hash_of(queries) == hash_of([label("cup", p3=2), label("mug", p2=0.0, p1=3.0)])
    assert len(hash_of(queries)) == 16
    others = [
        [label("mug", p1=3, p2=1), label("cup", p3=2)],
        [label("mug", p1=3, p2=0)],
        [label("mug", weight=2, p1=3, p2=0), label("cup", p3=2)],
        [label("pot", p1=3, p2=0), label("cup", p3=2)],
    ]
    assert len({hash_of(one) for one in [queries, *others]}) == 5
