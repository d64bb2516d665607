"""Do the statistics of experiments keep their promises? Simulated tests whose truth is known, naive figures beside.

A share of 5 % of 10,000 tests is off by chance by 0.4 points at most, 19 times of 20.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bench.report import Claim, run
from bench.statistics_claims import Flags, claim_near, percent
from bench.statistics_ratio import DAYS, measure_sample_ratio
from bench.statistics_visitors import (
    ORDERS,
    REVENUE,
    Sums,
    draw_returning,
    draw_tests,
    make_population,
    make_population_with_past,
)
from experiments.stats.cuped import AnyCuped, measure_adjusted_difference
from experiments.stats.effects import Effect, find_fixed_interval, measure_difference, measure_lift
from experiments.stats.power import (
    ProportionTest,
    compare_proportions,
    count_visitors_for_proportions,
    count_visitors_to_find,
)
from experiments.stats.sequential import find_always_valid_interval
from experiments.stats.sums import Floats, MeanStatistic, NotMeasurable, RatioStatistic

NEWCOMERS = 100  # a day and arm
VISITORS = 2500  # in each arm of a test of one look
LIFT = 0.05
BASELINE, TARGET = 0.10, 0.11
PLANTED = f"Conversion {100 * BASELINE:g} % to {100 * TARGET:g} %"


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    for number, (name, part) in enumerate(PARTS.items()):
        if name in arguments.parts.split(","):
            yield from part(np.random.default_rng([arguments.seed, number]), arguments.tests)


def measure_equal_arms(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield how often equal arms are called different: at the end, and at any of the daily looks."""
    population = make_population(rng)
    sums = draw_tests(rng, (population, population), tests, DAYS, NEWCOMERS)
    for name, read in METRICS.items():
        once, _ = look_daily(sums[:, :, -1:], read, NEWCOMERS * DAYS)
        yield from claim_near(f"A/A, {name}, one look at day {DAYS}, false positives", once[:, 0], 5)
        naive, always_valid = look_daily(sums[: tests // 4], read)
        yield Claim(f"A/A, {name}, a naive look every day", percent(naive.any(1)), "%")
        yield Claim(f"A/A, {name}, an always-valid look every day", percent(always_valid.any(1)), "%", "<= 5")


def measure_returning(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield the same for visitors who come back, whose own sums grow from look to look."""
    naive, always_valid = look_daily(draw_returning(rng, tests // 4, DAYS, NEWCOMERS // 2), Sums.ratio, NEWCOMERS // 2)
    yield Claim("A/A, CTR of visitors who come back, a naive look every day", percent(naive.any(1)), "%")
    yield Claim(
        "A/A, CTR of visitors who come back, an always-valid look every day", percent(always_valid.any(1)), "%", "<= 5"
    )


METRICS: dict[str, Callable[[Sums], MeanStatistic | RatioStatistic]] = {
    "CTR": Sums.ratio,
    "conversion": lambda sums: sums.mean(ORDERS),
    "revenue per visitor": lambda sums: sums.mean(REVENUE),
}


def look_daily(
    sums: Floats, read: Callable[[Sums], MeanStatistic | RatioStatistic], newcomers: int = NEWCOMERS
) -> tuple[Flags, Flags]:
    """Return where 0 lies outside the interval of one look and the always-valid one, each of shape (tests, days)."""
    outside = np.zeros((2, sums.shape[0], sums.shape[2]), bool)
    for test, day in np.ndindex(outside.shape[1:]):
        effect = measure_difference(*(read(Sums(newcomers * (day + 1), sums[test, arm, day])) for arm in (0, 1)))
        if isinstance(effect, Effect):
            outside[0, test, day] = not find_fixed_interval(effect).covers(0.0)
            outside[1, test, day] = not find_always_valid_interval(effect).covers(0.0)
    return outside[0], outside[1]


def measure_coverage(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield how often intervals of a planted CTR lift cover it: of visitors, and naive ones of impressions."""
    arms = (make_population(rng), make_population(rng, lift=LIFT))
    truth = arms[1].ratio() / arms[0].ratio() - 1
    ratios = [[Sums(VISITORS, arm).ratio() for arm in row[:, 0]] for row in draw_tests(rng, arms, tests, 1, VISITORS)]
    visitors = [find_fixed_interval(expect(measure_lift(*row))).covers(truth) for row in ratios]
    naive = [[count_impressions(arm) for arm in row] for row in ratios]
    impressions = [find_fixed_interval(expect(measure_lift(*row))).covers(truth) for row in naive]
    yield from claim_near(f"95 % interval of a CTR lift of {100 * truth:.1f} %, coverage", visitors, 95)
    yield Claim("the same by impressions, not visitors, coverage", percent(impressions), "%")
    looks = draw_tests(rng, arms, tests // 4, DAYS, NEWCOMERS)
    always = [all(cover_daily(row, truth)) for row in looks]
    yield Claim(f"always-valid interval of the CTR lift, covers on all {DAYS} days", percent(always), "%", ">= 95")


def cover_daily(row: Floats, truth: float) -> Iterator[bool]:
    for day in range(row.shape[1]):
        ratios = [Sums(NEWCOMERS * (day + 1), row[arm, day]).ratio() for arm in (0, 1)]
        yield find_always_valid_interval(expect(measure_lift(*ratios))).covers(truth)


def count_impressions(visitors: RatioStatistic) -> MeanStatistic:
    """Return the sums that take every impression for a visitor of its own, clicked or not."""
    return MeanStatistic(int(visitors.sum_d), visitors.sum_y, visitors.sum_y)


def measure_cuped(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield by how much the variance of estimates falls, beside what the correlation with the past promises."""
    population = make_population_with_past(rng)
    sums = draw_tests(rng, (population, population), tests, 1, VISITORS)[:, :, 0]
    means = [[Sums(VISITORS, arm).cuped_mean(0, 2) for arm in row] for row in sums]
    ratios = [[Sums(VISITORS, arm).cuped_ratio(0, 1, 2, 3) for arm in row] for row in sums]
    yield from show_cut("clicks per visitor", means, *population.values[:, [0, 2]].T)
    yield from show_cut("CTR", ratios, population.linearise(0, 1), population.linearise(2, 3))


def show_cut(name: str, pairs: Sequence[Sequence[AnyCuped]], now: Floats, past: Floats) -> Iterator[Claim]:
    plain = [expect(measure_difference(*(arm.metric for arm in pair))) for pair in pairs]
    adjusted = [expect(measure_adjusted_difference(*pair)) for pair in pairs]
    promised = 1 - np.corrcoef(now, past)[0, 1] ** 2
    left = np.var([each.estimate for each in adjusted]) / np.var([each.estimate for each in plain])
    yield Claim(f"CUPED, {name}, 1 − correlation² with the weeks before", float(promised))
    yield Claim(f"CUPED, {name}, variance of estimates left", float(left))
    yield Claim(f"CUPED, {name}, off 1 − correlation² by", abs(float(left / promised) - 1) * 100, "%", "<= 5")
    yield from claim_near(
        f"CUPED, {name}, 95 % interval, coverage", [find_fixed_interval(each).covers(0.0) for each in adjusted], 95
    )


def measure_power(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield how often a planted difference is found with as many visitors as were said to be needed."""
    visitors = count_visitors_for_proportions(BASELINE, TARGET)
    hits = zip(rng.binomial(visitors, BASELINE, tests), rng.binomial(visitors, TARGET, tests), strict=True)
    checks = [compare_proportions((int(a), visitors), (int(b), visitors)) for a, b in hits]
    found = [isinstance(check, ProportionTest) and check.p_value < 0.05 for check in checks]
    yield from claim_near(f"{PLANTED}, {visitors:,} visitors an arm, one look, found", found, 80)
    spread = BASELINE * (1 - BASELINE) + TARGET * (1 - TARGET)
    needed = count_visitors_to_find(Effect(0.0, math.sqrt(spread / 1000), 1000, 1000), TARGET - BASELINE)
    looks = find_daily(rng, tests // 4, needed // 2 // DAYS)
    told = f"{PLANTED}, {needed // 2:,} visitors an arm, always-valid"
    yield from claim_near(f"{told}, last look, found", looks[:, -1], 80, within=2)
    yield Claim(f"{told}, any daily look, found", percent(looks.any(1)), "%", ">= 80")
    stopped = np.where(looks.any(1), looks.argmax(1) + 1, DAYS) / DAYS
    yield Claim(f"{told}, visitors seen until found, of those planned", 100 * float(stopped.mean()), "%")


def find_daily(rng: np.random.Generator, tests: int, newcomers: int) -> Flags:
    """Return at which looks the always-valid interval leaves 0 out, shape (tests, days)."""
    hits = np.stack([rng.binomial(newcomers, share, (tests, DAYS)).cumsum(1) for share in (BASELINE, TARGET)], 1)
    found = np.zeros((tests, DAYS), bool)
    for test, day in np.ndindex(found.shape):
        arms = (MeanStatistic(newcomers * (day + 1), count, count) for count in hits[test, :, day].tolist())
        found[test, day] = not find_always_valid_interval(expect(measure_difference(*arms))).covers(0.0)
    return found


def expect(effect: Effect | NotMeasurable) -> Effect:
    assert isinstance(effect, Effect), effect
    return effect


PARTS = {
    "equal": measure_equal_arms,
    "returning": measure_returning,
    "coverage": measure_coverage,
    "ratio": measure_sample_ratio,
    "cuped": measure_cuped,
    "power": measure_power,
}

if __name__ == "__main__":
    run(
        __doc__,
        measure,
        tests={"type": int, "default": 10_000, "help": "simulated tests for each figure (default: 10000)"},
        seed={"type": int, "default": 1, "help": "of the random numbers (default: 1)"},
        parts={"default": ",".join(PARTS), "help": f"which to measure, of {', '.join(PARTS)} (default: all)"},
    )
