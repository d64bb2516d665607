"""Intervals that hold at every look."""

import math

import numpy as np
import pytest
from scipy import optimize

from experiments.stats.effects import Effect, find_fixed_interval, measure_difference, measure_lift
from experiments.stats.sequential import (
    RHO,
    TUNED_FOR,
    count_effective_visitors,
    find_always_valid_interval,
    tune_rho,
    widen,
)
from experiments.stats.sums import MeanStatistic, RatioStatistic
from tests.experiments.stats_data import expect


def test_the_width_is_that_of_the_paper():
    # s · sqrt(2 (t rho² + 1) / (t² rho²) · log(sqrt(t rho² + 1) / alpha)) with s = 3, t = 400, rho = 0.1.
    effect = Effect(0.0, 3 / math.sqrt(400), 200, 200)
    expected = 3 * math.sqrt(2 * 5 / (400**2 * 0.01) * math.log(math.sqrt(5) / 0.05))
    interval = find_always_valid_interval(effect, rho=0.1)
    assert [interval.low, interval.high] == pytest.approx([-expected, expected])


def test_rho_makes_the_interval_narrowest_at_5000_visitors():
    best = optimize.minimize_scalar(lambda rho: widen(TUNED_FOR, rho=rho), bounds=(1e-3, 1.0), method="bounded")
    assert pytest.approx(best.x, rel=1e-3) == RHO
    # There, the squared width is t rho² + 1, whose root solves u = log((u + 1) / alpha²).
    assert widen(TUNED_FOR) == pytest.approx(3.0351, abs=1e-4)
    # The paper's closed form is close to the optimum.
    assert pytest.approx(math.sqrt((-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 5000), rel=0.02) == RHO


def test_it_is_wider_than_at_one_look_and_much_wider_early_on():
    for visitors, width in ((20, 13.8), (500, 3.8), (5000, 3.0), (500_000, 3.6)):
        assert widen(visitors) == pytest.approx(width, abs=0.05)


def test_the_p_value_is_below_alpha_exactly_where_the_interval_leaves_zero_out():
    for z in np.linspace(-8, 8, 161):
        for alpha in (0.0005, 0.05, 0.2):
            interval = find_always_valid_interval(Effect(float(z), 1.0, 700, 900), alpha=alpha)
            assert interval.covers(0.0) == (interval.p_value >= alpha)


def test_time_is_all_visitors_of_a_balanced_test_and_fewer_of_a_lopsided_one():
    assert count_effective_visitors(Effect(0, 1, 50, 50)) == 100
    assert count_effective_visitors(Effect(0, 1, 90, 10)) == pytest.approx(36)


def test_time_runs_with_the_information_when_the_split_changes():
    for split in ((100, 100), (900, 100), (900, 500)):
        error = math.sqrt(1 / split[0] + 1 / split[1])
        assert count_effective_visitors(Effect(0, error, *split)) * error**2 == pytest.approx(4)


def draw_daily_sums(rng: np.random.Generator, tests: int, days: int, visitors: int) -> np.ndarray:
    """Return running sums of clicks, impressions and products, shape (tests, 2 arms, days, 5)."""
    impressions = rng.geometric(0.2, (tests, 2, days, visitors)).astype(float)
    clicks = rng.binomial(impressions.astype(int), rng.beta(1, 9, impressions.shape)).astype(float)
    parts = [clicks, impressions, clicks**2, impressions**2, clicks * impressions]
    return np.stack([part.sum(-1) for part in parts], -1).cumsum(2)


def test_daily_looks_at_equal_arms_alarm_in_at_most_5_percent_of_tests_where_naive_ones_do_in_far_more():
    tests, days, visitors = 400, 14, 60
    sums = draw_daily_sums(np.random.default_rng(11), tests, days, visitors)
    alarms = {"always-valid": 0, "naive": 0, "lift": 0, "mean": 0}
    for row in sums:
        looks = [
            [RatioStatistic(visitors * (day + 1), *map(float, row[arm, day])) for arm in (0, 1)] for day in range(days)
        ]
        effects = [expect(measure_difference(*look)) for look in looks]
        lifts = [expect(measure_lift(*look)) for look in looks]
        means = [expect(measure_difference(*(MeanStatistic(s.n, s.sum_y, s.sum_yy) for s in look))) for look in looks]
        alarms["naive"] += any(not find_fixed_interval(effect).covers(0) for effect in effects)
        alarms["always-valid"] += any(not find_always_valid_interval(effect).covers(0) for effect in effects)
        alarms["mean"] += any(not find_always_valid_interval(effect).covers(0) for effect in means)
        alarms["lift"] += any(not find_always_valid_interval(effect).covers(0) for effect in lifts)
    assert alarms["naive"] > 0.12 * tests
    assert max(alarms[name] for name in ("always-valid", "lift", "mean")) <= 0.05 * tests


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tune_rho(0), "visitors=0"),
        (lambda: tune_rho(alpha=2), "alpha=2"),
        (lambda: widen(10, rho=0), "rho=0"),
        (lambda: find_always_valid_interval(Effect(0, 1, 5, 5), alpha=0), "alpha=0"),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
