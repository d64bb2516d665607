"""The position-based click model: a result is clicked if it is examined and attracts.

P(click) = examination(position) * attractiveness(query, product), the two independent. Richardson, Dominowska and
Ragno 2007; Craswell et al. 2008; fitted by EM as in Chuklin, Markov and de Rijke 2015, "Click Models for Web Search",
chapter 4, with Beta priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from experiments.clicks.coec import measure_position_ctr
from experiments.clicks.log import Cells, Floats, PositionCurve, keep_shown
from experiments.clicks.pbm_intervals import (
    bound_attractiveness,
    bound_examination,
    measure_curvature,
    measure_variances,
)
from experiments.clicks.pbm_warnings import find_warnings
from experiments.clicks.relevance import Relevance, describe_pairs

ITERATIONS = 500
MINIMUM_IMPRESSIONS = 20.0
TOLERANCE = 1e-4  # of the log-likelihood: less than any data can tell apart
ROUNDS = 4  # of finding the prior's mean
SMOOTHING = 0.25  # more would pull the many rarely shown products, and with them the examinations, off the truth
EDGE = 30.0  # logits beyond are 0 and 1 to a float


@dataclass(frozen=True, slots=True)
class Prior:
    """Pseudo-counts: as if `strength` results had been seen of which the share `mean` attracted (or was examined).

    The Beta(1 + strength * mean, 1 + strength * (1 - mean)) prior, whose mode is `mean`. Raises ValueError outside.
    """

    mean: float
    strength: float = SMOOTHING

    def __post_init__(self) -> None:
        if not (0 < self.mean < 1 and 0 < self.strength < np.inf):
            raise ValueError(f"prior mean {self.mean}, strength {self.strength}: expected inside 0 to 1, and above 0")

    def smooth(self, successes: Floats, trials: Floats) -> Floats:
        return (successes + self.strength * self.mean) / (trials + self.strength)

    def measure_curvature(self, values: Floats) -> Floats:
        """Return minus the second derivative of the log density at each value."""
        return self.strength * (self.mean / values**2 + (1 - self.mean) / (1 - values) ** 2)

    def log_density(self, values: Floats) -> float:
        """Return the sum of the log densities, up to a constant."""
        return self.strength * float(np.sum(self.mean * np.log(values) + (1 - self.mean) * np.log1p(-values)))


@dataclass(frozen=True, slots=True, eq=False)
class PositionBasedFit:
    """What the fit found. `relevance` estimates attractiveness: the probability of a click once examined.

    `examination` is 1 at the first position, with the ends of its 95 % intervals in `examination_low` and `_high`.
    `objective`: log-likelihood plus log prior at first and after each iteration of the last fit; it never falls.
    `warnings`: what a reader must know before believing the estimates, empty if nothing.
    """

    relevance: Relevance
    examination: PositionCurve
    examination_low: Floats
    examination_high: Floats
    prior: Prior
    objective: tuple[float, ...]
    has_converged: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    attractiveness: Floats
    examination: Floats

    def to_logits(self) -> Floats:
        """Return all that is free, as one vector: the first position's examination is 1 whatever the clicks."""
        return logit(np.concatenate([self.attractiveness, self.examination[1:]]))

    @classmethod
    def from_logits(cls, values: Floats, pairs: int) -> _State:
        shares = expit(np.clip(values, -EDGE, EDGE))
        return cls(shares[:pairs], np.concatenate([[1.0], shares[pairs:]]))


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    cells: Cells
    attractiveness: Prior
    examination: Prior

    def start(self) -> _State:
        """Return a first guess: clicks by position relative to the most clicked, and each pair's smoothed CTR."""
        ctr = measure_position_ctr(self.cells).values
        examination = np.clip(ctr / max(ctr.max(), 1e-9), 0.05, 0.95)
        examination[0] = 1
        cells = self.cells
        clicks, impressions = cells.per_pair(cells.clicks), cells.per_pair(cells.impressions)
        return _State(self.attractiveness.smooth(clicks, impressions), examination)

    def step(self, state: _State) -> _State:
        """Return the state after one E and M step.

        A result not clicked attracted with probability a (1 - e) / (1 - e a), was examined with e (1 - a) / (1 - e a).
        """
        cells, attracts, examined = (
            self.cells,
            state.attractiveness[self.cells.pair],
            state.examination[self.cells.place],
        )
        skipped = (cells.impressions - cells.clicks) / (1 - examined * attracts)
        attracted = cells.per_pair(cells.clicks + skipped * attracts * (1 - examined))
        seen = cells.per_position(cells.clicks + skipped * examined * (1 - attracts))
        examination = self.examination.smooth(seen, cells.per_position(cells.impressions))
        examination[0] = 1
        return _State(self.attractiveness.smooth(attracted, cells.per_pair(cells.impressions)), examination)

    def measure(self, state: _State) -> float:
        """Return the log-likelihood plus the log prior, up to a constant."""
        cells = self.cells
        chance = state.examination[cells.place] * state.attractiveness[cells.pair]
        likelihood = cells.clicks @ np.log(chance) + (cells.impressions - cells.clicks) @ np.log1p(-chance)
        prior = self.attractiveness.log_density(state.attractiveness)
        return float(likelihood) + prior + self.examination.log_density(state.examination[1:])

    def leap(self, state: _State) -> tuple[_State, float]:
        """Return the state two EM steps on, or where it is better still, further along their way; and its objective.

        SQUAREM, scheme S3: Varadhan and Roland 2008. Where few results are clicked, EM alone takes thousands of steps.
        """
        once = self.step(state)
        twice = self.step(once)
        first = once.to_logits() - state.to_logits()
        bend = twice.to_logits() - once.to_logits() - first
        length = max(float(np.linalg.norm(first)) / max(float(np.linalg.norm(bend)), 1e-12), 1.0)
        further = state.to_logits() + 2 * length * first + length**2 * bend
        leapt = self.step(_State.from_logits(further, len(state.attractiveness)))
        found = [(self.measure(each), each) for each in (twice, leapt)]
        objective, best = max(found, key=lambda pair: pair[0])
        return best, objective


def fit_pbm(
    cells: Cells,
    *,
    attractiveness: Prior | None = None,
    examination: Prior = Prior(0.5),
    minimum_impressions: float = MINIMUM_IMPRESSIONS,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> PositionBasedFit:
    """Return the fitted model, with the first position seen examined by everyone: only ratios can be learned.

    A place that shoppers look at more than the first, as grids have, is beyond the model: it gets at most 1.
    Pairs with fewer than `minimum_impressions` are left out, of the result too: each brings a parameter of its own, and
    many hardly shown pull the examinations off the truth, however large the log (Neyman and Scott 1948).
    Without a prior for attractiveness its mean is learned: in ROUNDS fits, each with the mean of the pairs before.
    A fit has converged when an iteration gains less than `tolerance` of log-likelihood.
    Raises ValueError if no pair was shown so often, for less than 1 iteration and a tolerance of 0.
    """
    if iterations < 1 or not tolerance > 0:
        raise ValueError(f"{iterations} iterations, tolerance {tolerance}: expected at least 1, and above 0")
    kept = keep_shown(cells, minimum_impressions)
    problem = _Problem(kept, attractiveness or guess_prior(kept), examination)
    state, objective = _maximise(problem, problem.start(), iterations, tolerance)
    for _ in range(0 if attractiveness else ROUNDS - 1):
        problem = replace(problem, attractiveness=Prior(float(state.attractiveness.mean())))
        state, objective = _maximise(problem, state, iterations, tolerance)
    return _describe(problem, state, objective, _has_converged(objective, tolerance))


def guess_prior(cells: Cells) -> Prior:
    """Return the prior whose mean is the log's CTR, one click in two impressions added: never 0 or 1."""
    return Prior(float((cells.clicks.sum() + 1) / (cells.impressions.sum() + 2)))


def _maximise(problem: _Problem, state: _State, iterations: int, tolerance: float) -> tuple[_State, tuple[float, ...]]:
    """Return the state of the highest objective, and the objective at first and after each iteration."""
    objective = [problem.measure(state)]
    while len(objective) <= iterations and not _has_converged(objective, tolerance):
        state, value = problem.leap(state)
        objective.append(value)
    return state, tuple(objective)


def _has_converged(objective: Sequence[float], tolerance: float) -> bool:
    return len(objective) > 1 and objective[-1] - objective[-2] < tolerance


def _describe(problem: _Problem, state: _State, objective: tuple[float, ...], has_converged: bool) -> PositionBasedFit:
    cells, shares = problem.cells, (state.attractiveness, state.examination)
    priors = problem.attractiveness.measure_curvature(shares[0]), problem.examination.measure_curvature(shares[1][1:])
    attracts, examined = measure_variances(measure_curvature(cells, *shares, priors))
    interval = bound_attractiveness(state.attractiveness, attracts, cells.per_pair(cells.clicks))
    low, high = bound_examination(state.examination, examined)
    return PositionBasedFit(
        describe_pairs(cells, state.attractiveness, interval, state.examination[cells.place]),
        PositionCurve(cells.positions, state.examination),
        low,
        high,
        problem.attractiveness,
        objective,
        has_converged,
        find_warnings(cells, low, high, has_converged),
    )
