"""The interval of a lift beside that of the difference it is of."""

import math
from typing import Any

import numpy as np
import pytest

from experiments.stats.covariates import CupedMeanStatistic, CupedRatioStatistic
from experiments.stats.cuped import measure_adjusted_contrast, measure_adjusted_difference, measure_adjusted_lift
from experiments.stats.lifts import find_lift_interval
from experiments.stats.sequential import find_always_valid_interval
from experiments.stats.sums import MeanStatistic, NotMeasurable
from tests.experiments.stats_data import expect
from tests.experiments.test_stats_cuped import draw_means, draw_ratios


def make_share(count: int, n: int = 1000) -> CupedMeanStatistic:
    """Return visitors without a past, `count` of whom bought."""
    return CupedMeanStatistic(MeanStatistic(n, count, count), MeanStatistic(n, 0, 0), 0)


def test_a_lift_leaves_zero_out_exactly_where_the_difference_does():
    for alpha in (0.05, 0.01):
        for bought in range(0, 400, 7):
            for champion in (1, 12, 100, 300):
                arms = make_share(champion), make_share(bought)
                lift = expect(find_lift_interval(*arms, alpha=alpha))
                difference = find_always_valid_interval(expect(measure_adjusted_difference(*arms)), alpha=alpha)
                assert lift.covers(0.0) == difference.covers(0.0)
                assert lift.p_value == difference.p_value
                assert lift.covers(expect(measure_adjusted_lift(*arms)).estimate)


@pytest.mark.parametrize("draw", [draw_means, draw_ratios])
def test_an_adjusted_lift_leaves_zero_out_exactly_where_the_adjusted_difference_does(draw):
    kind: Any = CupedMeanStatistic if draw is draw_means else CupedRatioStatistic
    outcomes = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        arms = [kind.from_values(*draw(rng, n, gain)) for n, gain in ((300, 0.0), (500, seed / 50))]
        lift = expect(find_lift_interval(*arms))
        covered = find_always_valid_interval(expect(measure_adjusted_difference(*arms))).covers(0.0)
        assert lift.covers(0.0) == covered
        outcomes.add(covered)
    assert outcomes == {True, False}


def test_the_ends_are_the_scales_at_which_the_contrast_just_holds_zero():
    rng = np.random.default_rng(1)
    arms = [CupedMeanStatistic.from_values(*draw_means(rng, 800, gain)) for gain in (0.0, 0.3)]
    lift = expect(find_lift_interval(*arms))
    for scale, side in ((1 + lift.low, "low"), (1 + lift.high, "high")):
        contrast = expect(measure_adjusted_contrast(*arms, scale=scale))
        assert getattr(find_always_valid_interval(contrast), side) == pytest.approx(0, abs=1e-9)


def test_a_champion_that_may_be_at_zero_leaves_the_high_end_open():
    found = expect(find_lift_interval(make_share(2), make_share(100)))
    assert found.low > 0
    assert found.high == math.inf
    nothing_known = expect(find_lift_interval(make_share(2, 20), make_share(3, 20)))
    assert (nothing_known.low, nothing_known.high) == (-1, math.inf)


def test_nothing_falls_by_more_than_all_of_it():
    assert expect(find_lift_interval(make_share(100), make_share(0))).low == -1


def test_a_champion_at_zero_has_no_lift():
    found = find_lift_interval(make_share(0), make_share(100))
    assert isinstance(found, NotMeasurable)
    assert "a lift needs one above 0" in found.reason
