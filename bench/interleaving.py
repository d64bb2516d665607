"""How many times fewer visitors does interleaving need than an A/B test, to find the same better ranking?

Simulated: queries with graded products, two rankings of which one sees the grades less clearly, visitors of few or
many searches who look down the list, position 2 half as often as position 1, and click what looks right.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.report import Claim, run
from experiments.interleaving import Tally, Team, draft_teams, measure_preference, tally_visitors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PRODUCTS, SHOWN = 30, 10  # of a query
GRADES = (0.6, 0.2, 0.12, 0.08)  # shares of products graded 0 to 3
ATTRACTION = np.array([0.05, 0.15, 0.35, 0.7])  # chance to be clicked once seen, by grade
NOISE = 0.7  # of the better ranking's scores, in grades
SEARCHES = stats.lognorm(1.0)  # of a visitor, rounded up: most have few, some a hundred
COINS = 32  # drafts of each query
ALPHA, POWER = 0.05, 0.8
Z_ALPHA = NormalDist().inv_cdf(1 - ALPHA / 2)
Z = Z_ALPHA + NormalDist().inv_cdf(POWER)
AB_TESTS, INTERLEAVINGS = 400, 2000
SMALL = 400  # visitors of a test of identical rankings
SIDES = {Team.A: 1, Team.B: -1, Team.NEITHER: 0}


@dataclass(frozen=True, slots=True)
class Shop:
    """Grades of the products of each query, shape (queries, PRODUCTS), and two rankings of them, the better first."""

    grades: Ints
    better: Ints
    worse: Ints


@dataclass(frozen=True, slots=True)
class Visits:
    """Searches of simulated visitors: whose, of which query, and how easily they click; shape (searches,)."""

    visitors: Ints
    queries: Ints
    eagerness: Floats
    count: int  # of visitors


@dataclass(frozen=True, slots=True)
class Need:
    """Visitors in all to find the difference with POWER, and how often simulated tests of so many found it."""

    visitors: int
    found: float


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    rng = np.random.default_rng(arguments.seed)
    shop = make_shop(arguments.queries, arguments.gap, rng)
    visits = make_visits(arguments.visitors, arguments.queries, rng)
    yield Claim("nDCG@10 of the better ranking", mean_ndcg(shop.grades, shop.better))
    yield Claim("nDCG@10 of the worse ranking", mean_ndcg(shop.grades, shop.worse))
    tests = {f"A/B test on {name}": find_ab_need(score, shop, visits, rng) for name, score in METRICS.items()}
    drafted = {
        name: find_interleaving_need(shop, visits, rng, skips_shared_prefix=is_skipped)
        for name, is_skipped in (("interleaving", False), ("interleaving, shared prefix skipped", True))
    }
    for name, need in (tests | drafted).items():
        yield Claim(f"{name}: visitors needed", need.visitors)
        yield Claim(f"{name}: found with so many", need.found, "", f">= {POWER - 0.05:g}")
    for name, need in drafted.items():
        for test, other in tests.items():
            yield Claim(f"{name}: fewer visitors than an {test}", other.visitors / need.visitors, "times", ">= 1")
    yield Claim("interleaving of identical rankings: told apart", find_false_alarms(shop, rng), "", "<= 0.06")


# --- the shop and its visitors ------------------------------------------------------------------------


def make_shop(queries: int, gap: float, rng: np.random.Generator) -> Shop:
    grades = rng.choice(len(GRADES), (queries, PRODUCTS), p=GRADES)
    scores = grades + rng.normal(0, NOISE, grades.shape)
    blurred = scores + rng.normal(0, gap, grades.shape)
    return Shop(grades, np.argsort(-scores)[:, :SHOWN], np.argsort(-blurred)[:, :SHOWN])


def mean_ndcg(grades: Ints, rankings: Ints) -> float:
    """Return nDCG@10 with linear gains, as trec_eval has it; queries without a graded product are left out."""
    discounts = 1 / np.log2(np.arange(2, SHOWN + 2))
    ideal = -np.sort(-grades)[:, :SHOWN] @ discounts
    found = np.take_along_axis(grades, rankings, axis=1) @ discounts
    return float(np.mean(found[ideal > 0] / ideal[ideal > 0]))


def make_visits(count: int, queries: int, rng: np.random.Generator) -> Visits:
    searches = np.ceil(SEARCHES.rvs(count, random_state=rng)).astype(np.int64)
    visitors = np.repeat(np.arange(count), searches)
    eagerness = rng.beta(2, 2, count)  # one visitor's clicks are alike
    return Visits(visitors, rng.integers(0, queries, len(visitors)), eagerness[visitors], count)


def draw_clicks(grades: Ints, visits: Visits, rng: np.random.Generator) -> Bools:
    """Return which of the products shown were clicked, `grades` being theirs; both of shape (searches, SHOWN)."""
    clicks = np.empty(grades.shape, np.bool_)
    for position in range(SHOWN):
        chances = ATTRACTION[grades[:, position]] * visits.eagerness / (position + 1)
        clicks[:, position] = rng.random(len(grades)) < chances
    return clicks


# --- the A/B test -------------------------------------------------------------------------------------


def count_clicks(clicks: Bools) -> Floats:
    counts: Floats = clicks.sum(axis=1, dtype=np.float64)
    return counts


def find_first_clicks(clicks: Bools) -> Floats:
    """Return one over the position of the first click, 0 without one."""
    reciprocal_ranks: Floats = clicks.any(axis=1) / (clicks.argmax(axis=1) + 1.0)
    return reciprocal_ranks


METRICS: dict[str, Callable[[Bools], Floats]] = {"clicks per search": count_clicks, "MRR of clicks": find_first_clicks}


def find_ab_need(score: Callable[[Bools], Floats], shop: Shop, visits: Visits, rng: np.random.Generator) -> Need:
    """Return what a test of two halves needs, by the delta method over visitors (Deng et al. 2018)."""
    seed = int(rng.integers(2**32))  # the same luck in both arms: their difference is then known better
    arms = [
        visit_arm(score, shop.grades, ranking, visits, np.random.default_rng(seed))
        for ranking in (shop.better, shop.worse)
    ]
    (better, better_variance), (worse, worse_variance) = (estimate_ratio(arm) for arm in arms)
    each = math.ceil(Z**2 * (better_variance + worse_variance) / (better - worse) ** 2)
    return Need(2 * each, float(np.mean([is_ab_found(arms, each, rng) for _ in range(AB_TESTS)])))


def visit_arm(
    score: Callable[[Bools], Floats], grades: Ints, ranking: Ints, visits: Visits, rng: np.random.Generator
) -> Floats:
    """Return each visitor's sum of scores and number of searches, shape (visitors, 2)."""
    shown = np.take_along_axis(grades, ranking, axis=1)[visits.queries]
    scores = score(draw_clicks(shown, visits, rng))
    sums = np.bincount(visits.visitors, scores, minlength=visits.count)
    searches = np.bincount(visits.visitors, minlength=visits.count)
    return np.column_stack([sums, searches]).astype(np.float64)


def estimate_ratio(arm: Floats) -> tuple[float, float]:
    """Return score per search and the variance of one visitor's part in it."""
    sums, searches = arm.T
    ratio = float(sums.sum() / searches.sum())
    return ratio, float(np.var((sums - ratio * searches) / searches.mean(), ddof=1))


def is_ab_found(arms: list[Floats], each: int, rng: np.random.Generator) -> bool:
    """Return whether a test of `each` visitors drawn for either arm finds the better one better."""
    drawn = [estimate_ratio(arm[rng.integers(0, len(arm), each)]) for arm in arms]
    (better, better_variance), (worse, worse_variance) = drawn
    return better - worse > Z_ALPHA * math.sqrt((better_variance + worse_variance) / each)


# --- interleaving -------------------------------------------------------------------------------------


def find_interleaving_need(shop: Shop, visits: Visits, rng: np.random.Generator, *, skips_shared_prefix: bool) -> Need:
    """Return what the sign test needs: Noether 1987, "Sample Size Determination for Some Common Nonparametric Tests".

    Ties, which that test leaves out, are added to the visitors it asks for.
    """
    nets = visit_drafts(shop.grades, shop.better, shop.worse, visits, rng, skips_shared_prefix=skips_shared_prefix)
    tally = tally_visitors(nets)
    decided = (tally.wins_a + tally.wins_b) / tally.total
    chance = tally.wins_a / (tally.wins_a + tally.wins_b)
    visitors = math.ceil(Z**2 / (4 * (chance - 0.5) ** 2) / decided)
    shares = np.array([tally.wins_a, tally.wins_b, tally.ties]) / tally.total
    return Need(visitors, find_power(rng.multinomial(visitors, shares, INTERLEAVINGS)))


def find_power(counts: Ints) -> float:
    """Return how many of these tests find the better ranking; `counts`: their wins, losses and ties."""
    found = [measure_preference(Tally(*each)) for each in counts.tolist()]
    return float(np.mean([each.p_value < ALPHA and each.delta > 0 for each in found]))


def visit_drafts(
    grades: Ints, a: Ints, b: Ints, visits: Visits, rng: np.random.Generator, *, skips_shared_prefix: bool = False
) -> Floats:
    """Return by how many searches each visitor preferred `a`, shape (visitors,)."""
    drafts = [
        draft_teams(one, other, limit=SHOWN, seed=coins * len(a) + query, skips_shared_prefix=skips_shared_prefix)
        for query, (one, other) in enumerate(zip(a.tolist(), b.tolist(), strict=True))
        for coins in range(COINS)
    ]
    rows = visits.queries * COINS + rng.integers(0, COINS, len(visits.queries))
    shown = np.array([draft.product_ids for draft in drafts])[rows]
    clicks = draw_clicks(grades[visits.queries[:, None], shown], visits, rng)
    sides = np.array([[SIDES[team] for team in draft.teams] for draft in drafts])[rows]
    winners = np.sign((sides * clicks).sum(axis=1))
    return np.bincount(visits.visitors, winners, minlength=visits.count).astype(np.float64)


def find_false_alarms(shop: Shop, rng: np.random.Generator) -> float:
    """Return how many tests of two identical rankings tell them apart."""
    visits = make_visits(INTERLEAVINGS * SMALL, len(shop.grades), rng)
    nets = visit_drafts(shop.grades, shop.better, shop.better, visits, rng)
    tests = [measure_preference(tally_visitors(each)) for each in nets.reshape(INTERLEAVINGS, SMALL)]
    return float(np.mean([test.p_value < ALPHA for test in tests]))


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        seed={"type": int, "default": 1, "help": "of everything drawn (default: 1)"},
        queries={"type": int, "default": 500, "help": "different queries (default: 500)"},
        visitors={"type": int, "default": 300_000, "help": "visitors the need is worked out from (default: 300000)"},
        gap={"type": float, "default": 0.5, "help": "noise added to the worse ranking, in grades (default: 0.5)"},
    )
