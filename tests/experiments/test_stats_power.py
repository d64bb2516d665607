"""Proportions compared, and how many visitors it takes to find a difference."""

import math

import numpy as np
import pytest

from experiments.stats.effects import Effect
from experiments.stats.power import (
    ProportionTest,
    compare_proportions,
    count_days_to_go,
    count_visitors_for_means,
    count_visitors_for_proportions,
    count_visitors_to_find,
    find_detectable,
    find_power_for_proportions,
)
from experiments.stats.sequential import find_always_valid_interval
from experiments.stats.sums import NotMeasurable
from tests.experiments.stats_data import EXACT, WORKED


def test_two_proportions_give_the_worked_numbers():
    worked = WORKED["pooled_two_proportion_z"]
    found = compare_proportions(tuple(worked["a"]), tuple(worked["b"]))
    assert isinstance(found, ProportionTest)
    assert [found.z, found.p_value] == pytest.approx([worked["z"], worked["p_value"]], rel=EXACT)


def test_the_sample_size_gives_the_worked_numbers():
    worked = WORKED["sample_size_two_proportions"]
    levels = {"alpha": worked["alpha_two_sided"], "power": worked["power"]}
    found = count_visitors_for_proportions(worked["baseline"], worked["target"], **levels)
    assert found == worked["visitors_per_arm"]
    assert count_visitors_for_proportions(worked["target"], worked["baseline"], **levels) == found


def test_power_and_sample_size_are_each_other_turned_round():
    for power in (0.5, 0.8, 0.95):
        visitors = count_visitors_for_proportions(0.03, 0.035, power=power)
        assert find_power_for_proportions(0.03, 0.035, visitors) == pytest.approx(power, abs=1e-4)
    assert find_power_for_proportions(0.03, 0.03001, 10) == pytest.approx(0.05, abs=1e-4)  # what chance finds


def test_means_need_the_visitors_of_the_textbook():
    # (1.959964 + 0.841621)² = 7.848880; two arms of variance 4 and a difference of 0.5.
    assert count_visitors_for_means(4.0, 0.5) == round(2 * 4 * 7.848880 / 0.25)
    effect = Effect(0.0, math.sqrt(2 * 4 / 252), 252, 252)
    assert find_detectable(effect) == pytest.approx(0.5, rel=0.002)


def test_a_proportion_nobody_or_everybody_reached_is_not_measurable():
    for champion, variant in (((0, 10), (0, 10)), ((10, 10), (5, 5)), ((0, 0), (1, 2))):
        assert isinstance(compare_proportions(champion, variant), NotMeasurable)


def test_an_effect_is_found_at_the_visitors_it_was_promised_for():
    so_far = Effect(0.0, 0.02, 1000, 1500)
    needed = count_visitors_to_find(so_far, 0.01, power=0.8)
    growth = needed / 2500
    error = 0.02 / math.sqrt(growth)
    n_champion, n_variant = round(1000 * growth), round(1500 * growth)
    draws = np.random.default_rng(1).normal(0.01, error, 4000)
    found = [
        not find_always_valid_interval(Effect(float(draw), error, n_champion, n_variant)).covers(0) for draw in draws
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)


def test_rare_and_large_effects_have_an_answer_too():
    assert count_visitors_to_find(Effect(0.0, 0.02, 10, 10), 1e9) <= 20
    assert count_visitors_to_find(Effect(0.0, 0.02, 10, 10), 1e-12) > 10**14
    assert count_visitors_to_find(Effect(0.0, 0.02, 10, 10), -0.01) == count_visitors_to_find(
        Effect(0.0, 0.02, 10, 10), 0.01
    )


def test_days_to_go_are_whole_and_end_at_zero():
    assert count_days_to_go(1000, 400, 100) == 6
    assert count_days_to_go(1000, 399, 100) == 7
    assert count_days_to_go(1000, 1000, 0) == 0
    assert isinstance(count_days_to_go(1000, 10, 0), NotMeasurable)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count_visitors_for_proportions(0.1, 0.1), "no number of visitors finds no difference"),
        (lambda: count_visitors_for_proportions(0.1, 1.1), "share 1.1"),
        (lambda: count_visitors_for_proportions(0.1, 0.2, power=0.01), "power=0.01"),
        (lambda: count_visitors_for_means(0, 1), "variance=0"),
        (lambda: count_visitors_for_means(1, 0), "difference=0"),
        (lambda: count_visitors_to_find(Effect(0, 1, 5, 5), 0), "size=0"),
        (lambda: find_power_for_proportions(0.1, 0.2, 0), "visitors_per_arm=0"),
        (lambda: compare_proportions((11, 10), (1, 10)), "11 of 10 visitors"),
    ],
)
def test_plans_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
