"""The gate between a challenger and the champion's place."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval.evaluation.gate import HELD_OUT, MARGIN, TOGETHER, Verdict, decide_guard, judge
from retrieval.evaluation.guards import make_sku_queries, pick_cold_queries
from retrieval.learning.examples import LabelledQuery
from tests.fakes import make_document

GAIN = [0.05] * 30 + [-0.01] * 10  # mean 0.035
HALF = 0.5


def judge_differences(held_out=GAIN, **guards) -> Verdict:
    """Judge a challenger whose values differ so from a champion that has HALF everywhere."""
    differences = {HELD_OUT: held_out, **{name.replace("_", " "): values for name, values in guards.items()}}
    champion = {name: np.full(len(values), HALF) for name, values in differences.items()}
    return judge(champion, {name: HALF + np.array(values) for name, values in differences.items()})


def states(verdict: Verdict) -> dict[str, str]:
    return {each.name: each.state for each in verdict.sets}


def test_a_gain_without_a_loss_passes_and_is_told_in_one_line():
    verdict = judge_differences(old_queries=[0.0] * 20)
    assert verdict.is_passed
    assert states(verdict) == {HELD_OUT: "gains", "old queries": "holds"}
    gain = verdict.sets[0]
    assert (gain.queries, gain.wins, gain.losses, gain.champion) == (40, 30, 10, HALF)
    assert [gain.difference, gain.challenger] == pytest.approx([0.035, 0.535])
    assert verdict.reason == (
        f"passes: +0.035 nDCG@10 [{gain.low:.3f}, {gain.high:.3f}] on 40 held-out queries, loses on no guard set"
    )


def test_a_gain_that_may_be_chance_fails():
    verdict = judge_differences([0.3, -0.28] * 20)  # mean 0.01, standard error 0.046
    assert (verdict.is_passed, states(verdict)) == (False, {HELD_OUT: "not shown to gain"})
    assert verdict.reason.startswith("fails: +0.010 nDCG@10 [")
    assert "a gain is not shown, so few queries can show 0.130 or more" in verdict.reason


def test_gains_on_parts_of_the_held_out_queries_hide_no_loss_on_the_others():
    guards = {"SKUs": [-1.0] * 9, "old queries": [0.0] * 9, "cold categories": [0.05] * 900}
    values = {HELD_OUT: GAIN, **guards}
    champion = {name: np.full(len(found), 1.0) for name, found in values.items()}
    challenger = {name: 1.0 + np.array(found) for name, found in values.items()}
    assert judge(champion, challenger).is_passed
    verdict = judge(champion, challenger, parts=["cold categories"])
    assert not verdict.is_passed
    assert {each.name: each.queries for each in verdict.sets}[TOGETHER] == 18


def test_the_same_model_again_fails():
    verdict = judge_differences([0.0] * 40)
    assert not verdict.is_passed
    assert verdict.reason == "fails: +0.000 nDCG@10 [0.000, 0.000] on 40 held-out queries: a gain is not shown"


def test_few_held_out_queries_show_nothing_however_large_the_gain():
    verdict = judge_differences([0.4] * 19)
    assert not verdict.is_passed
    assert verdict.reason.endswith("are too few to tell, expected at least 20; rate more queries")


def test_a_loss_on_one_guard_set_fails_and_is_named():
    verdict = judge_differences(old_queries=[0.02] * 20, sku_queries=[-0.05] * 20)
    assert not verdict.is_passed
    assert states(verdict)["sku queries"] == "loses"
    assert states(verdict)["old queries"] == "gains"
    assert verdict.reason == "fails: loses 0.050 on sku queries (20)"


def test_a_loss_within_the_margin_holds_however_sure():
    assert states(judge_differences(old=[-0.009] * 500))["old"] == "holds"


def test_a_loss_that_may_be_chance_holds():
    # Mean -0.02; standard deviation 0.31 over 20 queries, so a standard error of 0.07.
    assert states(judge_differences(old=[0.28, -0.32] * 10))["old"] == "holds"
    # The same mean over 2,000 queries, a standard error of 0.007, is a loss.
    assert states(judge_differences(old=[0.28, -0.32] * 1000))["old"] == "loses"


def test_small_guard_sets_decide_together():
    alone = judge_differences(old=[-0.5] * 5)
    assert alone.is_passed
    assert alone.reason.endswith("loses on no guard set (old: too few queries to tell)")
    both = judge_differences(old=[-0.5] * 5, sku=[-0.5] * 5)
    assert states(both) == {HELD_OUT: "gains", "old": "too few queries", "sku": "too few queries", TOGETHER: "loses"}
    assert both.reason == "fails: loses 0.500 on all guard sets together (10)"


def test_without_guard_sets_the_reason_says_so():
    verdict = judge_differences(old=[])
    assert verdict.is_passed
    assert verdict.reason.endswith("no guard set was measured")


def test_equal_models_rarely_lose_and_worse_ones_nearly_always():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.15, (2000, 30))  # a standard error of 0.027
    false_alarms = np.mean([decide_guard(row, -1, MARGIN) == "loses" for row in noise])
    found = np.mean([decide_guard(row - 2.8 * 0.0274, -1, MARGIN) == "loses" for row in noise])
    assert false_alarms == pytest.approx(0.20, abs=0.03)
    assert found == pytest.approx(0.975, abs=0.015)


@pytest.mark.parametrize(
    ("champion", "challenger", "message"),
    [
        ({HELD_OUT: [0.1], "old": [0.1]}, {HELD_OUT: [0.1]}, "only one of the two models was measured on old"),
        ({HELD_OUT: [0.1]}, {HELD_OUT: [0.1, 0.2]}, "held-out queries: 1 and 2 values"),
        ({HELD_OUT: [0.1]}, {HELD_OUT: [np.nan]}, "held-out queries: a value is no number"),
        ({"old": [0.1]}, {"old": [0.1]}, "no values for 'held-out queries'"),
        ({HELD_OUT: []}, {HELD_OUT: []}, "no values for 'held-out queries'"),
    ],
)
def test_what_cannot_be_compared_is_refused(champion, challenger, message):
    arrays = [{name: np.array(values) for name, values in each.items()} for each in (champion, challenger)]
    with pytest.raises(ValueError, match=message):
        judge(*arrays)


def test_a_verdict_survives_json():
    verdict = judge_differences(old=[-0.5] * 5, sku=[0.01])
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
    assert verdict.to_dict()["sets"][2]["detectable"] is None


def test_sku_queries_are_codes_with_every_product_that_has_them():
    documents = [
        make_document(1, "Toner CF410X black"),
        make_document(2, "Drum for CF410X and CF411"),
        make_document(3, "Steel kettle 1.7 l"),
    ]
    found = {query.text: query.positives for query in make_sku_queries(documents, 10)}
    assert found == {"cf410x": [1, 2], "cf411": [2], "sku-1": [1], "sku-2": [2], "sku-3": [3]}
    assert len(make_sku_queries(documents, 2)) == 2
    assert make_sku_queries(documents, 2, seed=5) == make_sku_queries(documents, 2, seed=5)
    assert make_sku_queries([], 10) == []


def test_numbers_that_many_products_share_name_no_model():
    documents = [make_document(number, "Cable 230v") for number in range(1, 22)]
    assert "230v" not in {query.text for query in make_sku_queries(documents, 100)}


def test_cold_queries_ask_for_categories_that_nothing_was_learned_of():
    categories = {1: "home/mugs", 2: "home/kettles", 3: ""}
    queries = [LabelledQuery(text, {product_id: 3.0}, "ratings") for text, product_id in
               [("mug", 1), ("kettle", 2), ("thing", 3)]]  # fmt: skip
    trained = [LabelledQuery("red cup", {1: 3.0, 2: 1.0}, "ratings")]
    assert [query.text for query in pick_cold_queries(queries, trained, categories)] == ["kettle"]
