"""Intervals and paired comparisons."""

import math
from dataclasses import replace

import numpy as np
import pytest

from retrieval.evaluation.compare import compare, compare_pairs, estimate_means, find_detectable
from retrieval.evaluation.metrics import JUDGED, Scores


def make_scores(*ndcg: float, recall: tuple[float, ...] | None = None) -> Scores:
    values = {"nDCG@10": ndcg, JUDGED: (1.0,) * len(ndcg), "R(rel=3)@100": recall or ndcg}
    return Scores(tuple(f"q{row}" for row in range(len(ndcg))), {name: np.array(each) for name, each in values.items()})


def test_the_interval_is_that_of_the_bootstrap():
    # Of n zeros and ones a resample's mean is binomial: its 2.5 % and 97.5 % points are known.
    values = np.array([0.0] * 20 + [1.0] * 20)[:, None]
    [estimate] = estimate_means(values)
    assert [estimate.mean, estimate.low, estimate.high] == pytest.approx([0.5, 0.35, 0.65])


def test_columns_are_estimated_on_the_same_draws():
    values = np.random.default_rng(3).random(30)
    first, second, negative = estimate_means(np.column_stack([values, values, -values]))
    assert first == second
    assert [negative.low, negative.high] == pytest.approx([-first.high, -first.low])


def test_intervals_repeat_and_do_not_depend_on_how_resamples_are_cut(monkeypatch):
    values = np.random.default_rng(4).random((50, 2))
    whole = estimate_means(values)
    monkeypatch.setattr("retrieval.evaluation.compare.CELLS_AT_ONCE", 7 * 50)
    assert estimate_means(values) == whole


def test_one_query_is_its_own_interval_and_none_is_refused():
    [estimate] = estimate_means(np.array([[0.4]]))
    assert [estimate.low, estimate.high] == pytest.approx([0.4, 0.4])
    with pytest.raises(ValueError, match="no queries to average over"):
        estimate_means(np.empty((0, 1)))


def test_wins_losses_and_ties_are_counted_query_by_query():
    [ndcg, recall] = compare(
        "new", make_scores(0.9, 0.5, 0.7, 0.1 + 0.2), "old", make_scores(0.8, 0.6, 0.2, 0.3, recall=(1, 1, 1, 1))
    )
    assert (ndcg.config, ndcg.baseline, ndcg.metric, recall.metric) == ("new", "old", "nDCG@10", "R(rel=3)@100")
    assert (ndcg.wins, ndcg.losses, ndcg.ties) == (2, 1, 1)
    assert (recall.wins, recall.losses, recall.ties) == (0, 4, 0)
    assert ndcg.estimate.mean == pytest.approx((0.1 - 0.1 + 0.5) / 4)


def test_pairing_sees_a_small_steady_gain_that_single_intervals_hide():
    base = np.random.default_rng(5).random(60) * 0.9
    old, new = make_scores(*base), make_scores(*(base + 0.02))
    difference = compare("new", new, "old", old)[0]
    assert difference.estimate.low == pytest.approx(0.02)
    assert difference.wins == 60


def test_every_pair_is_the_later_config_against_the_earlier():
    scores = {"lexical": make_scores(0.1), "dense": make_scores(0.2), "hybrid": make_scores(0.3)}
    pairs = [(pair.config, pair.baseline) for pair in compare_pairs(scores) if pair.metric == "nDCG@10"]
    assert pairs == [("dense", "lexical"), ("hybrid", "lexical"), ("hybrid", "dense")]
    assert compare_pairs({"lexical": make_scores(0.1)}) == []


def test_rankings_of_different_queries_are_not_compared():
    scores = make_scores(0.1, 0.2)
    with pytest.raises(ValueError, match="new and old were measured over different queries"):
        compare("new", scores, "old", replace(scores, query_ids=("q0", "q7")))


def test_the_detectable_difference_is_2_8_standard_errors():
    assert find_detectable([0.0, 0.2]) == pytest.approx(2.8 * math.sqrt(0.02) / math.sqrt(2))
    assert find_detectable([0.1, 0.1, 0.1]) == pytest.approx(0)
    assert find_detectable([0.1]) is None
