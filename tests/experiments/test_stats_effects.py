"""Differences and lifts of two arms, at a single look."""

import math

import numpy as np
import pytest

from experiments.stats.effects import (
    Effect,
    find_fixed_interval,
    measure_contrast,
    measure_difference,
    measure_lift,
)
from experiments.stats.sums import MeanStatistic, NotMeasurable, RatioStatistic
from tests.experiments.stats_data import EXACT, WORKED, expect


def read_mean(values) -> MeanStatistic:
    return MeanStatistic(values["n"], values["sum"], values["sum_squares"])


def test_welch_gives_the_worked_numbers():
    worked = WORKED["welch_absolute"]
    effect = expect(measure_difference(read_mean(worked["a"]), read_mean(worked["b"])))
    interval = find_fixed_interval(effect)
    found = [effect.estimate, effect.standard_error, interval.low, interval.high]
    assert found == pytest.approx([worked["difference"], worked["se"], *worked["ci95"]], rel=worked["tolerance"])
    assert interval.p_value == pytest.approx(worked["p_value_t"], rel=worked["tolerance"])


def test_the_lift_of_means_gives_the_worked_numbers():
    worked = WORKED["welch_relative_delta_method"]
    effect = expect(measure_lift(read_mean(worked["a"]), read_mean(worked["b"])))
    interval = find_fixed_interval(effect)
    assert [effect.estimate, effect.standard_error] == pytest.approx([worked["lift"], worked["se"]], rel=EXACT)
    assert [interval.low, interval.high] == pytest.approx(worked["ci95"], rel=EXACT)
    assert interval.p_value == pytest.approx(worked["p_value_t"], rel=EXACT)
    normal = Effect(effect.estimate, effect.standard_error, effect.n_champion, effect.n_variant)
    assert find_fixed_interval(normal).p_value == pytest.approx(worked["p_value_normal"], rel=EXACT)


def test_the_ratio_of_sums_gives_the_worked_numbers():
    worked = WORKED["ratio_delta_method_visitor_level_ctr"]
    a = RatioStatistic.from_values(worked["a_clicks"], worked["a_impressions"])
    b = RatioStatistic.from_values(worked["b_clicks"], worked["b_impressions"])
    for statistic, name in ((a, "a"), (b, "b")):
        arm = expect(statistic.measure())
        assert arm.value == pytest.approx(worked[f"ctr_{name}"], rel=EXACT)
        assert math.sqrt(arm.variance / arm.n) == pytest.approx(worked[f"se_{name}"], rel=EXACT)
    difference, lift = expect(measure_difference(a, b)), expect(measure_lift(a, b))
    z = difference.estimate / difference.standard_error
    found = [difference.estimate, difference.standard_error, z, find_fixed_interval(difference).p_value]
    assert found == pytest.approx([worked[name] for name in ("difference", "se", "z", "p_value_normal")], rel=EXACT)
    assert [lift.estimate, lift.standard_error] == pytest.approx([worked["relative"], worked["relative_se"]], rel=EXACT)


def test_impressions_taken_for_visitors_give_the_wrong_error():
    worked = WORKED["ratio_delta_method_visitor_level_ctr"]
    impressions = [
        MeanStatistic(sum(worked[f"{name}_impressions"]), clicks := sum(worked[f"{name}_clicks"]), clicks)
        for name in ("a", "b")
    ]
    parts = [arm.variance * (arm.n - 1) / arm.n**2 for arm in (expect(each.measure()) for each in impressions)]
    assert math.sqrt(sum(parts)) == pytest.approx(worked["wrong_impression_level_se"], rel=EXACT)
    assert worked["wrong_impression_level_se"] != pytest.approx(worked["se"], rel=0.1)


def test_the_interval_leaves_zero_out_exactly_where_the_p_value_is_below_alpha():
    for z in np.linspace(-4, 4, 41):
        for alpha in (0.001, 0.05, 0.3):
            interval = find_fixed_interval(Effect(float(z), 1.0, 40, 40, df=60.0), alpha=alpha)
            assert interval.covers(0.0) == (interval.p_value >= alpha)


def test_a_contrast_measures_against_a_part_of_the_champion():
    champion, variant = MeanStatistic.from_values([9, 11] * 50), MeanStatistic.from_values([9, 10] * 50)
    effect = expect(measure_contrast(champion, variant, scale=0.9))
    assert effect.estimate == pytest.approx(0.5)  # 9.5 − 0.9 · 10
    # Sample variances 100 / 99 · (1, 0.25) over 100 visitors.
    assert effect.standard_error == pytest.approx(math.sqrt((0.81 + 0.25) / 99))


def test_an_arm_in_which_nobody_bought_yet_is_no_proof():
    champion = MeanStatistic(n=5000, sum_y=100, sum_yy=100)  # 2 % bought
    unlucky = expect(measure_difference(champion, MeanStatistic(n=50, sum_y=0, sum_yy=0)))
    assert find_fixed_interval(unlucky).covers(0.0)  # 0.98 ** 50: more than one in three
    broken = expect(measure_difference(champion, MeanStatistic(n=5000, sum_y=0, sum_yy=0)))
    assert find_fixed_interval(broken).high < 0


def test_two_arms_each_of_one_value_are_told_apart():
    # Every search of the champion finds something, none of the variant does.
    effect = expect(measure_difference(MeanStatistic(100, 0, 0), MeanStatistic(100, 100, 100)))
    assert effect.estimate == 1
    assert find_fixed_interval(effect).low > 0


@pytest.mark.parametrize(
    ("champion", "variant", "reason"),
    [
        (MeanStatistic(0, 0, 0), MeanStatistic(5, 3, 3), "in the champion only 0 visitors were seen"),
        (MeanStatistic(5, 3, 3), MeanStatistic(1, 1, 1), "in the variant only 1 visitors were seen"),
        (MeanStatistic(5, 0, 0), MeanStatistic(6, 0, 0), "all 11 visitors have the same value, 0"),
        (
            RatioStatistic.from_values([1, 0], [9, 9]),
            RatioStatistic.from_values([0, 0], [0, 0]),
            "in the variant the denominator sums to 0",
        ),
    ],
)
def test_what_cannot_be_measured_yet_says_why(champion, variant, reason):
    for measure in (measure_difference, measure_lift):
        found = measure(champion, variant)
        assert isinstance(found, NotMeasurable)
        assert reason in str(found)


def test_a_lift_needs_a_champion_above_zero_and_a_difference_does_not():
    champion, variant = MeanStatistic(100, 0, 0), MeanStatistic(100, 10, 10)
    assert "the champion's value is 0" in str(measure_lift(champion, variant))
    assert expect(measure_difference(champion, variant)).is_measurable


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1, 5])
def test_an_impossible_level_is_refused(alpha):
    with pytest.raises(ValueError, match="expected a share of false alarms between 0 and 1"):
        find_fixed_interval(Effect(1.0, 1.0, 10, 10), alpha=alpha)
