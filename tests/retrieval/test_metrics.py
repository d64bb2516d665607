"""The metrics' values, worked by hand."""

from math import log2

import pytest

from retrieval.evaluation.judgements import JudgementSet
from retrieval.evaluation.metrics import Scores, ndcg, score_rankings


def score(rankings: dict[str, list[str]], grades: dict[str, dict[str, int]], relevant_from: int = 3) -> Scores:
    return score_rankings(rankings, JudgementSet(dict.fromkeys(grades, "text"), grades), relevant_from)


def values(scores: Scores, row: int = 0) -> dict[str, float]:
    return {name: float(array[row]) for name, array in scores.values.items()}


def test_every_metric_has_the_value_worked_by_hand():
    scores = score({"q": ["unrated", "wrong", "best", "weak"]}, {"q": {"best": 3, "weak": 1, "wrong": 0, "gone": 2}})
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert values(scores) == pytest.approx(
        {
            "nDCG@10": (3 / log2(4) + 1 / log2(5)) / ideal,
            "condensed nDCG@10": (3 / log2(3) + 1 / log2(4)) / ideal,
            "Judged@10": 3 / 4,
            "R(rel=3)@100": 1.0,
            "RR(rel=3)@10": 1 / 3,
        }
    )


def test_gains_are_linear_and_the_perfect_order_scores_one():
    grades = {"q": {"a": 3, "b": 2, "c": 1}}
    assert values(score({"q": ["a", "b", "c"]}, grades))["nDCG@10"] == 1
    swapped = (2 + 3 / log2(3) + 1 / 2) / (3 + 2 / log2(3) + 1 / 2)
    assert values(score({"q": ["b", "a", "c"]}, grades))["nDCG@10"] == pytest.approx(swapped)


def test_ranks_decide_not_the_spelling_of_skus():
    grades = {"q": {"a": 3, "z": 0}}
    assert values(score({"q": ["a", "z"]}, grades))["RR(rel=3)@10"] == 1
    assert values(score({"q": ["z", "a"]}, grades))["RR(rel=3)@10"] == 1 / 2
    tenth = [f"P{number}" for number in range(998)]
    assert values(score({"q": [*tenth[:9], "a", *tenth[9:], "z"]}, grades))["RR(rel=3)@10"] == 1 / 10


def test_each_metric_looks_no_deeper_than_its_cutoff():
    other = [f"P{number}" for number in range(200)]
    grades = {"q": {"eleventh": 3, "hundredth": 3, "later": 3}}
    found = values(score({"q": [*other[:10], "eleventh", *other[10:98], "hundredth", "later"]}, grades))
    assert (found["nDCG@10"], found["Judged@10"], found["RR(rel=3)@10"]) == (0, 0, 0)
    assert found["R(rel=3)@100"] == pytest.approx(2 / 3)
    assert found["condensed nDCG@10"] == 1  # all that were rated stand in front of the rest


def test_the_relevant_grade_moves_recall_and_reciprocal_rank_alone():
    rankings, grades = {"q": ["good", "best"]}, {"q": {"best": 3, "good": 2, "gone": 2}}
    strict, kind = values(score(rankings, grades, 3)), values(score(rankings, grades, 2))
    assert (strict["R(rel=3)@100"], strict["RR(rel=3)@10"]) == (1, 1 / 2)
    assert [kind["R(rel=2)@100"], kind["RR(rel=2)@10"]] == pytest.approx([2 / 3, 1])
    assert strict["nDCG@10"] == kind["nDCG@10"]


def test_a_query_that_finds_nothing_scores_zero_and_counts():
    grades = {"empty": {"a": 3}, "missing": {"a": 3}, "found": {"a": 3}}
    scores = score({"found": ["a"], "empty": [], "unasked": ["a"]}, grades)
    assert scores.query_ids == ("empty", "missing", "found")
    assert scores.values["nDCG@10"].tolist() == [0, 0, 1]
    assert scores.mean("Judged@10") == pytest.approx(1 / 3)
    assert score({"found": []}, grades).mean("nDCG@10") == 0


def test_ndcg_of_one_ranking_is_that_of_the_measures():
    grades = {1: 3, 2: 1, 3: 0}
    judgements = JudgementSet({"q": "mug"}, {"q": {str(product_id): grade for product_id, grade in grades.items()}})
    for found in ([1, 2, 3], [3, 1, 2], [9, 8, 1, 2], []):
        scores = score_rankings({"q": [str(product_id) for product_id in found]}, judgements, 3)
        assert ndcg(found, grades) == pytest.approx(scores.mean("nDCG@10"))
        assert ndcg(found, grades, is_condensed=True) == pytest.approx(scores.mean("condensed nDCG@10"))
    assert ndcg([3, 1], {1: 1.5, 3: 0.5}) == pytest.approx((0.5 + 1.5 / log2(3)) / (1.5 + 0.5 / log2(3)))
