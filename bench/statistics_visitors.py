"""Visitors to test the statistics on: heavy-tailed, correlated, partly returning; populations known whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.stats.covariates import CupedMeanStatistic, CupedRatioStatistic
from experiments.stats.sums import Floats, MeanStatistic, RatioStatistic

POPULATION = 200_000
CLICKS, IMPRESSIONS, ORDERS, REVENUE = range(4)
COLUMNS = {columns + columns * (columns + 1) // 2: columns for columns in (2, 4)}  # by columns and pairs
DRAWN_AT_ONCE = 400_000  # visitors, of 112 bytes


@dataclass(frozen=True)
class Population:
    """Visitors, shape (visitors, columns), and the products of their columns, by which samples are summed."""

    values: Floats

    @property
    def products(self) -> Floats:
        """Return each visitor's values and the products of every two, shape (visitors, columns + pairs)."""
        rows, columns = np.triu_indices(self.values.shape[1])
        return np.hstack([self.values, self.values[:, rows] * self.values[:, columns]])

    def ratio(self, y: int = CLICKS, d: int = IMPRESSIONS) -> float:
        return float(self.values[:, y].sum() / self.values[:, d].sum())

    def linearise(self, y: int, d: int) -> Floats:
        """Return what each visitor adds to the ratio."""
        residuals = self.values[:, y] - self.ratio(y, d) * self.values[:, d]
        return np.asarray(residuals / self.values[:, d].mean(), np.float64)


@dataclass(frozen=True)
class Sums:
    """A sample of `n` visitors: what its rows of Population.products add up to, shape (columns + pairs,)."""

    n: int
    values: Floats

    def mean(self, y: int) -> MeanStatistic:
        return MeanStatistic(self.n, float(self.values[y]), self._product(y, y))

    def ratio(self, y: int = CLICKS, d: int = IMPRESSIONS) -> RatioStatistic:
        squares = (self._product(y, y), self._product(d, d), self._product(y, d))
        return RatioStatistic(self.n, float(self.values[y]), float(self.values[d]), *squares)

    def cuped_mean(self, y: int, x: int) -> CupedMeanStatistic:
        return CupedMeanStatistic(self.mean(y), self.mean(x), self._product(y, x))

    def cuped_ratio(self, y: int, d: int, x: int, e: int) -> CupedRatioStatistic:
        products = (self._product(y, x), self._product(y, e), self._product(d, x), self._product(d, e))
        return CupedRatioStatistic(self.ratio(y, d), self.ratio(x, e), *products)

    def _product(self, first: int, second: int) -> float:
        """Return the sum of products of two columns, first <= second: rows of a triangle, one after the other."""
        columns = COLUMNS[len(self.values)]
        return float(self.values[columns + first * columns - first * (first - 1) // 2 + second - first])


def make_population(rng: np.random.Generator, *, lift: float = 0.0) -> Population:
    """Return visitors as clicks, impressions, orders and revenue in cents; `lift` multiplies what they click.

    Impressions are log-normal (sigma 1.1: 1 % of visitors see a tenth of them), each visitor clicks at a rate of
    their own, those who browse much at a lower one; 4 % buy, for log-normal sums.
    """
    impressions = np.ceil(rng.lognormal(2.0, 1.1, POPULATION))
    rate = rng.beta(2, 12, POPULATION) * (impressions / impressions.mean()) ** -0.2
    clicks = rng.binomial(impressions.astype(np.int64), np.minimum(rate * (1 + lift), 1))
    orders = (rng.random(POPULATION) < 0.04 * np.minimum(clicks, 3)).astype(np.float64)
    revenue = orders * np.round(rng.lognormal(8.0, 0.9, POPULATION))
    return Population(np.column_stack([clicks, impressions, orders, revenue]).astype(np.float64))


def make_population_with_past(rng: np.random.Generator) -> Population:
    """Return visitors as clicks and impressions of the test and of the weeks before; a third were not there then."""
    pace, rate = rng.lognormal(2.0, 1.0, POPULATION), rng.beta(2, 6, POPULATION)
    was_there = rng.random(POPULATION) > 1 / 3
    now, past = rng.poisson(pace) + 1, rng.poisson(3 * pace) * was_there
    columns = [rng.binomial(now, rate), now, rng.binomial(past, rate), past]
    return Population(np.column_stack(columns).astype(np.float64))


def draw_tests(
    rng: np.random.Generator, arms: tuple[Population, Population], tests: int, days: int, visitors: int
) -> Floats:
    """Return running sums at the end of each day, shape (tests, 2 arms, days, columns + pairs)."""
    return np.stack([_draw_arm(rng, arm.products, tests, days, visitors) for arm in arms], 1)


def _draw_arm(rng: np.random.Generator, products: Floats, tests: int, days: int, visitors: int) -> Floats:
    sums = np.empty((tests * days, products.shape[1]))
    step = max(DRAWN_AT_ONCE // visitors, 1)
    for start in range(0, len(sums), step):
        rows = min(step, len(sums) - start)
        drawn = rng.integers(0, len(products), (rows, visitors))
        sums[start : start + rows] = products[drawn].sum(1)
    return sums.reshape(tests, days, -1).cumsum(1)


def draw_returning(rng: np.random.Generator, tests: int, days: int, newcomers: int) -> Floats:
    """Return running sums of clicks and impressions of arms that are alike, whose visitors come back.

    Shape (tests, 2 arms, days, 5). Each day brings so many new visitors to an arm; every visitor's sums grow on later
    days, with rates of coming and clicking of their own. A square is of all that a visitor did so far.
    """
    lives = _make_lives(rng, days)
    sums = np.zeros((tests, 2, days, lives.shape[-1]))
    for first in range(days):
        for test in range(0, tests, 100):
            rows = min(100, tests - test)
            drawn = rng.integers(0, len(lives), (rows, 2, newcomers))
            sums[test : test + rows, :, first:] += lives[drawn, : days - first].sum(2)
    return sums


def _make_lives(rng: np.random.Generator, days: int, visitors: int = 20_000) -> Floats:
    """Return what visitors did by each day since they first came, shape (visitors, days, columns + pairs)."""
    comes = rng.random((visitors, days)) < rng.beta(0.5, 4, visitors)[:, None]
    comes[:, 0] = True
    impressions = rng.geometric(1 / 12, (visitors, days)) * comes
    clicks = rng.binomial(impressions, rng.beta(2, 12, visitors)[:, None])
    totals = np.stack([clicks.cumsum(1), impressions.cumsum(1)], -1).reshape(-1, 2).astype(np.float64)
    return Population(totals).products.reshape(visitors, days, -1)
