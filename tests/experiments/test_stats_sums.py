"""Sums over visitors: what they hold, merge and refuse."""

import math
from dataclasses import astuple

import numpy as np
import pytest

from experiments.stats.sums import Arm, MeanStatistic, NotMeasurable, RatioStatistic
from tests.experiments.stats_data import expect


def test_a_mean_and_its_sample_variance_follow_from_three_sums():
    statistic = MeanStatistic.from_values([1, 2, 6])
    assert statistic == MeanStatistic(n=3, sum_y=9, sum_yy=41)
    assert statistic.measure() == Arm(n=3, value=3, variance=7, df=2)  # (4 + 1 + 9) / 2


@pytest.mark.parametrize("impressions", [[4, 4, 4], [2, 4, 6]])
def test_a_ratio_divides_sums_and_varies_as_its_residuals_do(impressions):
    clicks = [impression / 2 + residual for impression, residual in zip(impressions, [-1, 0, 1], strict=True)]
    arm = expect(RatioStatistic.from_values(clicks, impressions).measure())
    assert (arm.n, arm.value, arm.df) == (3, 0.5, math.inf)
    assert arm.variance == pytest.approx(1 / 16)  # of the residuals, over the mean impressions squared


def test_a_ratio_over_one_search_a_visitor_is_the_mean():
    values = np.random.default_rng(1).poisson(2.0, 50)
    mean = expect(MeanStatistic.from_values(values).measure())
    ratio = expect(RatioStatistic.from_values(values, np.ones(50)).measure())
    assert [ratio.value, ratio.variance] == pytest.approx([mean.value, mean.variance])


def test_adding_merges_different_visitors():
    y, d = np.random.default_rng(2).random((2, 30))
    days = MeanStatistic.from_values(y[:10]) + MeanStatistic.from_values(y[10:])
    assert astuple(days) == pytest.approx(astuple(MeanStatistic.from_values(y)))
    ratio_days = RatioStatistic.from_values(y[:10], d[:10]) + RatioStatistic.from_values(y[10:], d[10:])
    assert astuple(ratio_days) == pytest.approx(astuple(RatioStatistic.from_values(y, d)))
    assert MeanStatistic.from_values([]) + MeanStatistic(2, 3, 5) == MeanStatistic(2, 3, 5)


def test_what_rounding_leaves_of_equal_values_is_no_variance():
    assert expect(MeanStatistic.from_values(np.full(1000, 0.1)).measure()).variance == 0
    impressions = np.random.default_rng(3).integers(1, 90, 1000)
    assert expect(RatioStatistic.from_values(impressions * 0.3, impressions).measure()).variance == 0


@pytest.mark.parametrize(
    ("statistic", "reason"),
    [
        (MeanStatistic(0, 0, 0), "only 0 visitors were seen"),
        (MeanStatistic(1, 5, 25), "only 1 visitors were seen"),
        (RatioStatistic(1, 1, 1, 1, 1, 1), "only 1 visitors were seen"),
        (RatioStatistic.from_values([0, 0, 0], [0, 0, 0]), "the denominator sums to 0 over 3 visitors"),
    ],
)
def test_too_little_to_measure_is_said_and_not_computed(statistic, reason):
    measured = statistic.measure()
    assert isinstance(measured, NotMeasurable)
    assert not measured.is_measurable
    assert str(measured).startswith(f"not yet measurable because {reason}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda: MeanStatistic.from_values([1, math.nan]), r"y\[1\] is nan"),
        (lambda: MeanStatistic.from_values([[1], [2]]), r"shape \(2, 1\): expected one value per visitor"),
        (lambda: RatioStatistic.from_values([1, 2], [1]), "different numbers of visitors \\(y: 2, d: 1\\)"),
        (lambda: MeanStatistic(-1, 0, 0), "n=-1"),
        (lambda: MeanStatistic(2, math.inf, 0), "expected finite numbers"),
        (lambda: MeanStatistic(2, 3, 4), "no 2 values have the sum 3 and the sum of squares 4"),
        (lambda: MeanStatistic(0, 1, 1), "no 0 values have the sum 1"),
        (lambda: RatioStatistic(2, 2, 2, 2, 2, 5), "no values have the sum of products 5"),
    ],
)
def test_sums_that_no_visitors_have_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        values()
