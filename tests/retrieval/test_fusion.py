"""Fusion of two rankings, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.engine.fusion import Evidence, fuse, merge_candidates, order_by_blend, share_of_codes, soften_blend
from retrieval.engine.types import EngineError, Ranking

LEXICAL = Ranking(np.array([3, 2]), np.array([12.0, 6.0], np.float32))
DENSE = Ranking(np.array([1, 2]), np.array([0.9, 0.8], np.float32))
CANDIDATES = merge_candidates(LEXICAL, DENSE)  # products 1, 2, 3 in this order

NO_EVIDENCE = Evidence()


def fused(fusion: str, evidence: Evidence = NO_EVIDENCE, dense_weight: float = 0.5) -> dict[int, float]:
    scores = fuse(CANDIDATES, evidence, fusion=fusion, dense_weight=dense_weight)
    return dict(zip(CANDIDATES.product_ids.tolist(), scores.tolist(), strict=True))


def test_merging_keeps_every_product_once_with_both_its_ranks():
    assert CANDIDATES.product_ids.tolist() == [1, 2, 3]
    assert CANDIDATES.lexical.ranks.tolist() == [0, 2, 1]
    assert CANDIDATES.dense.ranks.tolist() == [1, 2, 0]
    assert CANDIDATES.lexical.scores[1:].tolist() == [6.0, 12.0]


def test_rrf_prefers_products_found_by_both():
    scores = fused("rrf")
    assert scores[1] == pytest.approx(1 / 61)
    assert scores[2] == pytest.approx(1 / 62 + 1 / 62)
    assert scores[3] == pytest.approx(1 / 61)


def test_weighted_fusion_adds_shares_of_the_best_scores():
    scores = fused("weighted", dense_weight=0.75)
    assert scores[1] == pytest.approx(0.75)
    assert scores[2] == pytest.approx(0.75 * 0.8 / 0.9 + 0.25 * 6 / 12)
    assert scores[3] == pytest.approx(0.25)


def test_dbsf_places_scores_between_three_deviations():
    # Two scores lie one standard deviation from their mean: (±1 + 3) / 6.
    scores = fused("dbsf")
    assert scores[1] == pytest.approx(4 / 6)
    assert scores[2] == pytest.approx(2 / 6 + 2 / 6)
    assert scores[3] == pytest.approx(4 / 6)


def test_adaptive_fusion_weighs_coverage_and_standing_out():
    evidence = Evidence(lexical_bound=24.0, dense_mean=0.3, dense_deviation=0.1)
    scores = fused("adaptive", evidence, dense_weight=0.7)
    # Product 1 lies 6 deviations above the mean, product 2 lies 5, product 3 counts as far as the last known.
    assert scores[1] == pytest.approx(0.7 * (0.5 * 1 + 0.5 * 1))
    assert scores[2] == pytest.approx(0.7 * (0.5 * 5 / 6 + 0.5 * 61 / 62) + 0.3 * (0.5 * 6 / 24 + 0.5 * 61 / 62))
    assert scores[3] == pytest.approx(0.7 * 0.5 * 5 / 6 + 0.3 * (0.5 * 12 / 24 + 0.5))


def test_adaptive_fusion_trusts_words_more_where_the_query_is_a_code():
    words, codes = Evidence(lexical_bound=12.0), Evidence(lexical_bound=12.0, code_share=1.0)
    assert fused("adaptive", codes)[3] > fused("adaptive", words)[3]
    assert fused("adaptive", codes)[1] < fused("adaptive", words)[1]


def test_adaptive_fusion_leaves_a_query_that_is_only_a_code_to_the_words():
    code = Evidence(lexical_bound=12.0, dense_mean=0.3, dense_deviation=0.1, code_share=1.0)
    scores = fused("adaptive", code)
    assert scores[1] == 0.0  # found by its vector alone
    assert scores[3] == pytest.approx(0.5 * 12 / 12 + 0.5)


def test_a_code_that_no_words_find_is_answered_by_what_is_near_it():
    nothing = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))
    code = Evidence(dense_mean=0.3, dense_deviation=0.1, code_share=1.0)
    alone = merge_candidates(nothing, DENSE)
    scores = fuse(alone, code, fusion="adaptive", dense_weight=0.7)
    assert scores.tolist() == fuse(alone, replace(code, code_share=0.0), fusion="adaptive", dense_weight=0.7).tolist()
    assert scores[0] > scores[1] > 0


@pytest.mark.parametrize("fusion", ["adaptive", "weighted", "rrf", "dbsf"])
def test_every_rule_takes_empty_rankings(fusion):
    nothing = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))
    assert len(fuse(merge_candidates(nothing, nothing), Evidence(), fusion=fusion, dense_weight=0.5)) == 0
    one_sided = fuse(merge_candidates(LEXICAL, nothing), Evidence(), fusion=fusion, dense_weight=0.5)
    assert one_sided[0] > one_sided[1]


def test_unknown_fusion_is_refused_with_the_choices():
    with pytest.raises(EngineError, match=r"unknown fusion 'rff', expected one of: .*rrf"):
        fused("rff")


@pytest.mark.parametrize(("code_share", "blend"), [(0.0, 0.6), (0.5, 0.45), (1.0, 0.0)])
def test_a_reranker_counts_less_where_the_query_is_a_code(code_share, blend):
    assert soften_blend(0.6, code_share) == pytest.approx(blend)


def test_tokens_with_digits_count_as_codes_by_their_weight():
    assert share_of_codes({"canon": 2.0, "p1005": 6.0}) == 0.75
    assert share_of_codes({"printer": 2.0}) == share_of_codes({}) == 0


FUSED, SCORES = np.array([1.0, 0.9, 0.8, 0.3]), np.array([0.1, 0.2, 0.1, 0.0])


def test_a_reranker_of_unknown_span_uses_all_of_the_range_of_what_it_read():
    assert order_by_blend(FUSED, SCORES, 0.6).tolist() == [1, 0, 2, 3]
    assert order_by_blend(FUSED, 100 * SCORES, 0.6).tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize(("span", "order"), [(2.0, [0, 1, 2, 3]), (0.2, [1, 0, 2, 3])])
def test_scores_that_hardly_differ_for_the_reranker_s_usual_span_change_nothing(span, order):
    assert order_by_blend(FUSED, SCORES, 0.5, span).tolist() == order
    assert order_by_blend(7 * FUSED, 3 * SCORES, 0.5, 3 * span).tolist() == order  # whatever their units


def test_a_span_needs_no_products_and_no_fused_score_above_zero():
    assert order_by_blend(FUSED[:0], SCORES[:0], 0.5, 1.0).tolist() == []
    assert order_by_blend(np.zeros(4), SCORES, 0.5, 1.0).tolist() == [1, 0, 2, 3]
