"""Sample ratio, proportions, visitors needed, many metrics at once, outliers and guardrails."""

import math

import numpy as np
import pytest
from scipy import special

from experiments.stats.corrections import (
    adjust_benjamini_hochberg,
    find_bonferroni_alpha,
)
from experiments.stats.guardrails import HARMED, SAFE, UNDECIDED, check_guardrail
from experiments.stats.outliers import find_cap, find_greedy, find_search_limit, winsorise
from experiments.stats.ratio_mismatch import RatioCheck, check_sample_ratio
from experiments.stats.sums import MeanStatistic, NotMeasurable, RatioStatistic
from tests.experiments.stats_data import EXACT, WORKED, expect


@pytest.mark.parametrize("worked", WORKED["sample_ratio_mismatch"], ids=lambda worked: str(worked["observed"]))
def test_the_sample_ratio_gives_the_worked_numbers(worked):
    found = check_sample_ratio(worked["observed"], worked["weights"])
    assert isinstance(found, RatioCheck)
    assert found.p_value == pytest.approx(worked["p_value"], rel=EXACT)
    assert found.is_alarm == worked["alarm"]
    assert found.chi2 == pytest.approx(worked.get("chi2", found.chi2), rel=EXACT)


def test_weights_need_not_sum_to_one():
    shares, hundredths = check_sample_ratio([510, 240], [2, 1]), check_sample_ratio([510, 240], [200 / 3, 100 / 3])
    assert isinstance(shares, RatioCheck)
    assert isinstance(hundredths, RatioCheck)
    assert shares.p_value == pytest.approx(hundredths.p_value)
    assert shares.expected == pytest.approx((500, 250))


def test_daily_looks_at_a_sound_split_alarm_no_more_often_than_the_always_valid_p_value_says():
    counts = np.random.default_rng(4).multinomial(300, [0.5, 0.3, 0.2], (500, 28)).cumsum(1)
    checks = [[expect(check_sample_ratio(day, (5, 3, 2))) for day in test] for test in counts.tolist()]
    assert np.mean([any(day.always_valid_p_value < 0.05 for day in test) for test in checks]) <= 0.05
    assert np.mean([any(day.p_value < 0.05 for day in test) for test in checks]) > 0.15


def test_the_always_valid_p_value_is_one_over_the_bayes_factor():
    # Two arms: B(5000 + 600, 5000 + 400) / B(5000, 5000) / 0.5 ** 1000.
    factor = special.betaln(5600, 5400) - special.betaln(5000, 5000) + 1000 * math.log(2)
    assert expect(check_sample_ratio([600, 400], [1, 1])).always_valid_p_value == pytest.approx(math.exp(-factor))
    assert expect(check_sample_ratio([500, 500], [1, 1])).always_valid_p_value == 1.0


def test_few_visitors_say_nothing_about_the_ratio():
    for observed, weights in (([0, 0], [1, 1]), ([9, 0], [1, 1]), ([50, 4], [99, 1])):
        found = check_sample_ratio(observed, weights)
        assert isinstance(found, NotMeasurable)
        assert "at least 5 are needed" in found.reason


@pytest.mark.parametrize(
    ("observed", "weights", "message"),
    [
        ([10], [1], "two arms or more"),
        ([10, 10], [1, 1, 1], "2 counts and 3 weights"),
        ([10, 10], [1, 0], "weight 0"),
        ([10, -1], [1, 1], "count -1"),
        ([10, 10], [1, math.nan], "weight nan"),
    ],
)
def test_a_ratio_that_makes_no_sense_is_refused(observed, weights, message):
    with pytest.raises(ValueError, match=message):
        check_sample_ratio(observed, weights)


def test_p_values_are_corrected_as_worked_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    assert adjust_benjamini_hochberg(p) == pytest.approx([0.04, 4 / 3 * 0.04, 4 / 3 * 0.04, 0.5])
    assert find_bonferroni_alpha(4) == pytest.approx(0.0125)


def test_a_correction_keeps_the_order_and_makes_nothing_surer():
    p = np.random.default_rng(1).random(40) ** 2
    adjusted = adjust_benjamini_hochberg(p)
    assert (p <= adjusted).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert len(adjust_benjamini_hochberg([])) == 0


@pytest.mark.parametrize("p", [[0.5, math.nan], [1.5], [-0.1], [[0.1, 0.2]]])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match="expected one row of numbers 0 to 1"):
        adjust_benjamini_hochberg(p)


def test_no_interval_needs_no_level():
    with pytest.raises(ValueError, match="count=0"):
        find_bonferroni_alpha(0)


def test_the_cap_is_of_what_both_arms_spent_and_the_same_for_each():
    champion, variant = [0] * 90 + [10, 20, 30], [0] * 95 + [40, 1000]
    cap = find_cap([champion, variant], percentile=75)
    assert cap == 40  # of 10, 20, 30, 40, 1000
    assert winsorise(variant, cap)[-2:].tolist() == [40, 40]
    assert winsorise(champion, cap).tolist() == champion


def test_nothing_spent_is_nothing_to_cap():
    assert find_cap([[0, 0], []]) == math.inf
    assert winsorise([0, 3], math.inf).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_cap([[5, -1]]), "value -1"),
        (lambda: find_cap([[5]], percentile=0), "percentile=0"),
        (lambda: winsorise([1], 0), "cap=0"),
        (lambda: winsorise([math.inf], 5), r"values\[0\] is inf"),
    ],
)
def test_caps_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_visitor_who_searches_far_more_than_all_others_is_above_the_limit():
    ordinary, crawler = [1, 3] * 100, [1, 3] * 100 + [900]
    limit = find_search_limit([ordinary, crawler])
    searches = np.array(ordinary + crawler)
    assert limit == pytest.approx(searches.mean() + 7 * searches.std())
    assert 3 < limit < 900
    assert find_search_limit([[], []]) == math.inf


def test_who_clicks_more_results_than_anybody_reads_is_greedy():
    searches, clicks = [5, 5, 2, 1, 0], [25, 26, 12, 24, 0]
    assert find_greedy(searches, clicks).tolist() == [False, True, False, True, False]


def make_mean(n: int, hits: int) -> MeanStatistic:
    return MeanStatistic(n, hits, hits)


def test_a_variant_that_loses_much_more_than_the_margin_is_harmed():
    found = check_guardrail(make_mean(20_000, 2000), make_mean(20_000, 1500), margin=0.05, is_higher_better=True)
    assert found.state == HARMED
    assert found.interval is not None
    assert found.interval.high < 0


def test_a_variant_as_good_as_the_champion_is_safe_once_enough_is_known():
    few, many = make_mean(1000, 100), make_mean(100_000, 10_000)
    assert check_guardrail(few, few, margin=0.05, is_higher_better=True).state == UNDECIDED
    assert check_guardrail(many, many, margin=0.05, is_higher_better=True).state == SAFE


def test_more_is_worse_where_lower_is_better():
    searches = np.full(5000, 4.0)
    rare, often = (
        RatioStatistic.from_values(np.random.default_rng(seed).binomial(4, share, 5000), searches)
        for seed, share in ((1, 0.02), (2, 0.04))
    )
    assert check_guardrail(rare, often, margin=0.1, is_higher_better=False).state == HARMED
    assert check_guardrail(often, rare, margin=0.1, is_higher_better=False).state == SAFE


def test_a_loss_within_the_margin_is_not_harm():
    champion, variant = make_mean(100_000, 10_000), make_mean(100_000, 9600)
    assert check_guardrail(champion, variant, margin=0.1, is_higher_better=True).state == SAFE
    assert check_guardrail(champion, variant, margin=0.0, is_higher_better=True).state == UNDECIDED


def test_a_variant_that_finds_nothing_at_all_is_harmed():
    found = check_guardrail(make_mean(500, 0), make_mean(500, 500), margin=0.1, is_higher_better=False)
    assert found.state == HARMED


def test_a_guardrail_without_data_is_undecided_and_says_why():
    found = check_guardrail(make_mean(0, 0), make_mean(0, 0), margin=0.1, is_higher_better=True)
    assert (found.state, found.interval) == (UNDECIDED, None)
    assert "only 0 visitors" in found.reason
    with pytest.raises(ValueError, match="margin=-1"):
        check_guardrail(make_mean(9, 3), make_mean(9, 3), margin=-1, is_higher_better=True)


def test_a_lone_zero_in_a_small_arm_stops_nothing():
    # 1 % of visitors go to the variant: the first 50 buy nothing in more than a third of all tests.
    found = check_guardrail(make_mean(5000, 100), make_mean(50, 0), margin=0.0, is_higher_better=True)
    assert found.state == UNDECIDED


def test_what_is_allowed_does_no_harm_however_good_the_champion_is():
    def check(champion: MeanStatistic, variant: MeanStatistic, allowed: float | None = 0.075) -> str:
        return check_guardrail(champion, variant, margin=0.5, is_higher_better=False, allowed=allowed).state

    champion, variant = MeanStatistic(20_000, 20, 20), MeanStatistic(20_000, 200, 200)  # 0.1 % and 1 %
    assert check(champion, variant, allowed=None) == HARMED
    assert check(champion, variant) == SAFE
    much_worse = MeanStatistic(20_000, 2000, 2000)
    assert check(champion, much_worse) == HARMED
    assert check(much_worse, much_worse) == SAFE
    assert check(champion, MeanStatistic(200, 16, 16)) == UNDECIDED
