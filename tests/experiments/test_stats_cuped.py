"""Noise that visitors brought along is taken out, and nothing else."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.stats.covariates import CupedMeanStatistic, CupedRatioStatistic
from experiments.stats.cuped import fit_adjustment, measure_adjusted_difference, measure_adjusted_lift
from experiments.stats.effects import measure_difference, measure_lift
from experiments.stats.sums import MeanStatistic, NotMeasurable, RatioStatistic
from tests.experiments.stats_data import expect


def draw_means(rng: np.random.Generator, count: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return values of visitors and what they did before, correlated."""
    taste = rng.lognormal(0, 0.7, count)
    return rng.poisson(3 * taste) * (1 + gain), rng.poisson(4 * taste).astype(float)


def draw_ratios(rng: np.random.Generator, count: int, gain: float = 0.0) -> tuple[np.ndarray, ...]:
    """Return clicks, impressions and the same from before: a third was not there before."""
    taste, searches = rng.beta(2, 8, count) * 0.6, rng.geometric(0.05, (2, count))
    searches[1] *= rng.random(count) > 1 / 3
    clicks = rng.binomial(searches[0], taste * (1 + gain))
    return clicks, searches[0], rng.binomial(searches[1], taste), searches[1]


def test_the_variance_cut_is_the_squared_correlation_exactly():
    y, x = draw_means(np.random.default_rng(1), 200)
    both = CupedMeanStatistic.from_values(y, x)
    found = fit_adjustment(both, both)
    assert found.theta == pytest.approx(np.cov(y, x)[0, 1] / np.var(x, ddof=1))
    assert found.variance_cut == pytest.approx(np.corrcoef(y, x)[0, 1] ** 2)
    assert np.var(y - found.theta * x) / np.var(y) == pytest.approx(1 - found.variance_cut)
    plain = expect(measure_difference(both.metric, both.metric))
    adjusted = expect(measure_adjusted_difference(both, both))
    assert (adjusted.standard_error / plain.standard_error) ** 2 == pytest.approx(1 - found.variance_cut)


def test_the_adjusted_difference_is_that_of_values_less_theta_times_the_covariate():
    rng = np.random.default_rng(2)
    arms = [draw_means(rng, 80), draw_means(rng, 120, gain=0.1)]
    champion, variant = (CupedMeanStatistic.from_values(*arm) for arm in arms)
    theta = fit_adjustment(champion, variant).theta
    by_hand = expect(measure_difference(*(MeanStatistic.from_values(y - theta * x) for y, x in arms)))
    found = expect(measure_adjusted_difference(champion, variant))
    assert [found.estimate, found.standard_error, found.df] == pytest.approx(
        [by_hand.estimate, by_hand.standard_error, by_hand.df]
    )


def test_a_ratio_over_one_search_a_visitor_is_adjusted_as_a_mean():
    rng, ones = np.random.default_rng(3), np.ones(90)
    arms = [draw_means(rng, 90), draw_means(rng, 90)]
    means = [CupedMeanStatistic.from_values(y, x) for y, x in arms]
    ratios = [CupedRatioStatistic.from_values(y, ones, x, ones) for y, x in arms]
    assert fit_adjustment(*ratios).theta == pytest.approx(fit_adjustment(*means).theta)
    for measure in (measure_adjusted_difference, measure_adjusted_lift):
        mean, ratio = expect(measure(*means)), expect(measure(*ratios))
        assert [ratio.estimate, ratio.standard_error] == pytest.approx([mean.estimate, mean.standard_error])


def test_the_covariance_of_ratios_is_that_of_what_each_visitor_adds():
    y, d, x, e = draw_ratios(np.random.default_rng(4), 150)
    now = (y - y.sum() / d.sum() * d) / d.mean()
    before = (x - x.sum() / e.sum() * e) / e.mean()
    assert CupedRatioStatistic.from_values(y, d, x, e).covary() == pytest.approx(np.cov(now, before)[0, 1])


@pytest.mark.parametrize("draw", [draw_means, draw_ratios])
@pytest.mark.parametrize("measure", [measure_adjusted_difference, measure_adjusted_lift])
def test_the_standard_error_is_how_far_estimates_stray(draw, measure):
    rng = np.random.default_rng(5)
    kind: Any = CupedMeanStatistic if draw is draw_means else CupedRatioStatistic
    found = [
        expect(measure(kind.from_values(*draw(rng, 300)), kind.from_values(*draw(rng, 700, gain=0.5))))
        for _ in range(800)
    ]
    strayed = np.std([effect.estimate for effect in found])
    assert np.sqrt(np.mean([effect.standard_error**2 for effect in found])) == pytest.approx(strayed, rel=0.08)


@pytest.mark.parametrize("draw", [draw_means, draw_ratios])
def test_the_adjusted_lift_is_the_planted_one_with_less_noise(draw):
    rng = np.random.default_rng(6)
    kind: Any = CupedMeanStatistic if draw is draw_means else CupedRatioStatistic
    champion = kind.from_values(*draw(rng, 20_000))
    variant = kind.from_values(*draw(rng, 20_000, gain=0.2))
    plain = expect(measure_lift(champion.metric, variant.metric))
    adjusted = expect(measure_adjusted_lift(champion, variant))
    assert adjusted.estimate == pytest.approx(0.2, abs=4 * adjusted.standard_error)
    assert adjusted.standard_error < 0.97 * plain.standard_error


def test_adding_merges_different_visitors():
    rng = np.random.default_rng(7)
    y, x = draw_means(rng, 40)
    merged = CupedMeanStatistic.from_values(y[:9], x[:9]) + CupedMeanStatistic.from_values(y[9:], x[9:])
    assert merged == CupedMeanStatistic.from_values(y, x)  # whole numbers: no rounding
    columns = draw_ratios(rng, 40)
    halves = [CupedRatioStatistic.from_values(*(column[part] for column in columns)) for part in (np.s_[:9], np.s_[9:])]
    assert halves[0] + halves[1] == CupedRatioStatistic.from_values(*columns)


@pytest.mark.parametrize(
    ("y", "x"),
    [
        ([1, 2, 3, 4], [0, 0, 0, 0]),  # nobody was there before
        ([1, 2, 3, 4], [5, 5, 5, 5]),
        ([1, 2, 3, 4], [2, 4, 6, 8]),
        ([0, 0, 0, 0], [1, 2, 3, 4]),
    ],
)
def test_without_anything_to_adjust_by_the_plain_effect_stands(y, x):
    champion = CupedMeanStatistic.from_values(y, x)
    variant = CupedMeanStatistic.from_values([2, 1, 4, 6], [1, 0, 2, 5]) if y[0] == 0 else champion
    assert fit_adjustment(champion, variant).theta == 0
    assert measure_adjusted_difference(champion, variant) == measure_difference(champion.metric, variant.metric)
    assert measure_adjusted_lift(champion, variant) == measure_lift(champion.metric, variant.metric)


def test_visitors_without_past_leave_a_ratio_as_it_is():
    statistic = CupedRatioStatistic.from_values([1, 2, 0], [4, 5, 6], [0, 0, 0], [0, 0, 0])
    assert expect(measure_adjusted_difference(statistic, statistic)) == expect(
        measure_difference(statistic.metric, statistic.metric)
    )


def test_an_adjusted_champion_at_or_below_zero_has_no_lift():
    rng = np.random.default_rng(8)
    past = rng.normal(0, 1, 50)
    champion = CupedMeanStatistic.from_values(past + 3 + rng.normal(0, 0.1, 50), past + 3)
    variant = CupedMeanStatistic.from_values(past + rng.normal(0, 0.1, 50) - 4, past - 4)
    found = measure_adjusted_lift(champion, variant)
    assert isinstance(found, NotMeasurable)
    assert "adjusted value" in found.reason


def test_sums_of_different_visitors_are_refused():
    means = CupedMeanStatistic.from_values([1, 2], [3, 4])
    with pytest.raises(ValueError, match="2 visitors, but 1 in the covariate"):
        replace(means, covariate=MeanStatistic(1, 3, 9))
    with pytest.raises(ValueError, match="no values have the sum of products 100"):
        replace(means, sum_yx=100)
    ratios = CupedRatioStatistic.from_values([1, 2], [3, 4], [1, 0], [2, 2])
    for sums in ((1e3, 5, 3, 14), (1, 1e3, 3, 14), (1, 5, 1e3, 14), (1, 5, 3, 1e3)):
        with pytest.raises(ValueError, match="no values have the sum of products"):
            CupedRatioStatistic(ratios.metric, ratios.covariate, *sums)
    with pytest.raises(ValueError, match="2 visitors, but 0"):
        replace(ratios, covariate=RatioStatistic(0, 0, 0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"x\[0\] is nan"):
        CupedMeanStatistic.from_values([1.0], [math.nan])
