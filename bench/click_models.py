"""Do clicks tell how relevant products are? Planted relevance and attention, simulated shoppers, and what is recovered.

The ranking shown follows relevance loosely, so that good products also have good places: what clicks alone confuse.
In each search it is ranked anew with a little noise, `--exploration` times a Gumbel draw on scores of deviation 1;
other rows show less. Estimates are compared over all pairs of query and product that were shown 20 times, and over
those that shoppers looked at often enough to know: of the others no estimate knows much, and grades leave them out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from bench.report import Claim, run
from experiments.clicks.coec import estimate_coec
from experiments.clicks.log import Cells, Floats, Ints, build_log, keep_shown, sum_log
from experiments.clicks.pbm import MINIMUM_IMPRESSIONS, PositionBasedFit, fit_pbm
from experiments.clicks.propensity import estimate_ipw
from experiments.shoppers import Flags, ShopperModel, draw_queries, shop

LEAST, MOST = 10, 20  # results of a query
LOOSE = 20
CORRELATION = 0.6  # of the ranking's scores with relevance
EXPLORATIONS = (0.0, 0.05)  # beside the one asked for
PBM = ShopperModel("pbm")
CASCADE = ShopperModel("cascade")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Relevance and ranking scores by query and product, nan and -inf where a query has no more products."""

    relevance: Floats
    scores: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What was seen, and the truth: examination of each position, and of each product shown for each search."""

    cells: Cells
    examination: Floats
    examined: Floats
    moved: float


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    world = make_world(arguments.queries, np.random.default_rng(arguments.seed))
    for exploration in (*EXPLORATIONS, arguments.exploration):
        name = f"pbm shoppers, exploration {exploration:g}"
        yield from recover(name, world, PBM, exploration, arguments, is_held=exploration == arguments.exploration)
    name = f"cascade shoppers, exploration {arguments.exploration:g}"
    yield from recover(name, world, CASCADE, arguments.exploration, arguments, is_held=False)


def make_world(queries: int, rng: np.random.Generator) -> World:
    """Return queries of LEAST to MOST products; relevance is Beta(0.8, 2): many poor, few good."""
    relevance = rng.beta(0.8, 2, (queries, MOST))
    normal = (relevance - relevance.mean()) / relevance.std()
    scores = CORRELATION * normal + np.sqrt(1 - CORRELATION**2) * rng.standard_normal(normal.shape)
    beyond = np.arange(MOST) >= rng.integers(LEAST, MOST + 1, (queries, 1))
    return World(np.where(beyond, np.nan, relevance), np.where(beyond, -np.inf, scores))


def observe(world: World, model: ShopperModel, exploration: float, searches: int, rng: np.random.Generator) -> Observed:
    query = draw_queries(searches, len(world.scores), rng)
    order = rank(world.scores[query] + exploration * rng.gumbel(size=(searches, MOST)))
    shown = np.take_along_axis(world.relevance[query], order, axis=1)
    behaviour, kept = shop(shown, model, rng), ~np.isnan(shown)
    rows, places = np.nonzero(kept)
    log = build_log(query[rows], order[kept], places + 1, behaviour.clicks[kept])
    examined = np.zeros(world.scores.shape)
    np.add.at(examined, (query[rows], order[kept]), behaviour.examined[kept])
    moved = float((order != rank(world.scores)[query])[kept].mean())
    return Observed(sum_log(log), behaviour.examined.sum(axis=0) / kept.sum(axis=0), examined, moved)


def rank(scores: Floats) -> Ints:
    return np.argsort(-scores, axis=1, kind="stable")


def recover(
    name: str, world: World, model: ShopperModel, exploration: float, arguments: argparse.Namespace, *, is_held: bool
) -> Iterator[Claim]:
    observed = observe(world, model, exploration, arguments.searches, np.random.default_rng(arguments.seed + 1))
    start = time.perf_counter()
    fit = fit_pbm(observed.cells)
    yield Claim(f"{name}: fit", time.perf_counter() - start, "s")
    yield Claim(f"{name}: results away from their usual position", 100 * observed.moved, "%")
    relevance = fit.relevance
    pairs = relevance.query, relevance.product
    truth, examined = model.click_probability(world.relevance[pairs]), observed.examined[pairs]
    estimates = estimate_all(observed.cells, fit)
    for minimum in (0, LOOSE, arguments.minimum_examined):
        is_judged = is_held and minimum == arguments.minimum_examined
        yield from show_ranks(f"{name}: examined >= {minimum:g}", estimates, truth, examined >= minimum, is_judged)
    covered = (relevance.low <= truth) & (truth <= relevance.high)
    yield Claim(f"{name}: 95 % intervals that hold the truth", 100 * float(covered.mean()), "%")
    yield from show_examination(name, observed, fit, is_held)
    yield Claim(f"{name}: warnings of the fit", len(fit.warnings))


def show_ranks(name: str, estimates: dict[str, Floats], truth: Floats, kept: Flags, is_judged: bool) -> Iterator[Claim]:
    """Yield the rank correlation of each estimate with the planted probability of a click once examined."""
    yield Claim(f"{name}: pairs", int(kept.sum()))
    ranks = {each: float(spearmanr(values[kept], truth[kept]).statistic) for each, values in estimates.items()}
    for each, value in ranks.items():
        yield Claim(f"{name}: rank correlation, {each}", value, "", ">= 0.9" if is_judged and each == "PBM" else "")
    yield Claim(f"{name}: PBM − raw CTR", ranks["PBM"] - ranks["raw CTR"], "", ">= 0.05" if is_judged else "")


def estimate_all(cells: Cells, fit: PositionBasedFit) -> dict[str, Floats]:
    """Return each estimator's values for the pairs of the fit."""
    cells = keep_shown(cells, MINIMUM_IMPRESSIONS)
    raw = fit.relevance.clicks / fit.relevance.impressions
    weighted = estimate_ipw(cells, fit.examination).estimate
    return {"raw CTR": raw, "COEC": estimate_coec(cells).estimate, "IPW": weighted, "PBM": fit.relevance.estimate}


def show_examination(name: str, observed: Observed, fit: PositionBasedFit, is_held: bool) -> Iterator[Claim]:
    found = fit.examination.values
    truth = observed.examination[fit.examination.positions - 1]
    value = float(spearmanr(truth, found).statistic)
    yield Claim(f"{name}: rank correlation of examination", value, "", ">= 0.9" if is_held else "")
    yield Claim(f"{name}: examination, mean error", 100 * float(np.mean(np.abs(found / truth - 1))), "% of the truth")
    for position in (2, 5, 10):
        yield Claim(f"{name}: examination at {position}, true", float(truth[position - 1]))
        yield Claim(f"{name}: examination at {position}, fitted", float(found[position - 1]))


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        searches={"type": int, "default": 50_000, "help": "simulated searches (default: 50,000)"},
        queries={"type": int, "default": 200, "help": "different queries (default: 200)"},
        exploration={"type": float, "default": 0.2, "help": "noise on the ranking's scores (default: 0.2)"},
        minimum_examined={"type": float, "default": 100, "help": "of the pairs held to the bar (default: 100)"},
        seed={"type": int, "default": 1, "help": "of all draws (default: 1)"},
    )
