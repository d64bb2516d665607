"""Simulated shoppers: who comes and searches when, and what they do with the results they are shown.

Pure: the caller shows real results of known grade and records what comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Grades = npt.NDArray[np.integer] | npt.NDArray[np.floating]
KINDS = ("pbm", "cascade")
NOTHING = -1  # the grade of a place without a product
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ShopperModel:
    """How a shopper reads a list of results. Tuples hold one probability for each grade from 0 up.

    pbm: each position is looked at with probability 1 / position^eta, whatever stands above it (Joachims et al. 2017).
    cascade: from the top down; after a result not clicked the shopper goes on with probability `patience`, after a
    clicked one stops with probability `satisfied`: the simplified DBN of Chapelle and Zhang 2009, and where `patience`
    and `satisfied` are 1, the cascade of Craswell et al. 2008.
    A result looked at is clicked with probability `click`, of which the share `noise` is the same for all grades. A
    product clicked is added to the cart with probability `add`, one added bought with probability `purchase`.
    Raises ValueError for probabilities outside 0 to 1 and tuples that do not fit together.
    """

    kind: str = "pbm"
    eta: float = 1.0
    patience: float = 0.9
    noise: float = 0.1
    click: tuple[float, ...] = (0.03, 0.1, 0.25, 0.5)
    satisfied: tuple[float, ...] = (0.1, 0.3, 0.6, 0.9)
    add: tuple[float, ...] = (0.02, 0.08, 0.2, 0.4)
    purchase: tuple[float, ...] = (0.1, 0.3, 0.5, 0.6)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of shopper {self.kind!r}, expected one of: {', '.join(KINDS)}")
        if not 0 <= self.eta < np.inf:
            raise ValueError(f"eta {self.eta}, expected 0 (all positions looked at alike) or more")
        by_grade = self.click, self.satisfied, self.add, self.purchase
        if len({len(values) for values in by_grade}) > 1 or len(self.click) < 2:
            raise ValueError("click, satisfied, add and purchase need one probability a grade, the same number of each")
        _check_shares(self.patience, self.noise, *chain(*by_grade))

    def click_probability(self, grades: Grades) -> Floats:
        """Return the probability of a click once looked at, noise included; 0 where there is no product."""
        clean = interpolate(self.click, grades)
        return np.where(is_shown(grades), (1 - self.noise) * clean + self.noise * float(np.mean(self.click)), 0)


@dataclass(frozen=True, slots=True, eq=False)
class Behaviour:
    """What was looked at, clicked, added to the cart and bought: arrays of the shape of the results shown."""

    examined: Flags
    clicks: Flags
    adds: Flags
    purchases: Flags


def _check_shares(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"probability {value}, expected 0 to 1")


def is_shown(grades: Grades) -> Flags:
    """Return where there is a product: grades other than -1 and nan."""
    shown: Flags = (grades != NOTHING) & ~np.isnan(grades)
    return shown


def interpolate(by_grade: tuple[float, ...], grades: Grades) -> Floats:
    """Return the probability at each grade: whole numbers are grades, floats 0 to 1 between the lowest and highest.

    Places without a product get that of grade 0. Raises ValueError for grades beyond.
    """
    highest = len(by_grade) - 1 if np.issubdtype(grades.dtype, np.integer) else 1
    known = np.where(is_shown(grades), grades, 0)
    if known.size and not 0 <= known.min() <= known.max() <= highest:
        raise ValueError(
            f"grades are {known.min()} to {known.max()}, expected 0 to {highest} as {grades.dtype}, or {NOTHING} for "
            "no product: whole numbers are grades, floats are relevance from 0 to 1"
        )
    return np.interp(known * (len(by_grade) - 1) / highest, np.arange(len(by_grade)), by_grade)


def shop(grades: Grades, model: ShopperModel, rng: np.random.Generator) -> Behaviour:
    """Return what shoppers do with lists of results: the last axis is the position, each list another search.

    `grades`: shape (..., results), whole numbers from 0, or floats from 0 to 1; -1 or nan where there is no product.
    """
    willing = rng.random(grades.shape) < model.click_probability(grades)
    examined = (_glance if model.kind == "pbm" else _descend)(grades, willing, model, rng) & is_shown(grades)
    clicks = examined & willing
    adds = clicks & (rng.random(grades.shape) < interpolate(model.add, grades))
    return Behaviour(examined, clicks, adds, adds & (rng.random(grades.shape) < interpolate(model.purchase, grades)))


def examine(model: ShopperModel, results: int) -> Floats:
    """Return the probability that each of so many positions is looked at by a pbm shopper."""
    return 1 / np.arange(1, results + 1) ** model.eta


def _glance(grades: Grades, willing: Flags, model: ShopperModel, rng: np.random.Generator) -> Flags:
    seen: Flags = rng.random(grades.shape) < examine(model, grades.shape[-1])
    return seen


def _descend(grades: Grades, willing: Flags, model: ShopperModel, rng: np.random.Generator) -> Flags:
    """Return what is looked at from the top down; `willing` is what would be clicked."""
    going = 1 - interpolate(model.satisfied, grades)
    goes_on = rng.random(grades.shape) < np.where(willing, going, model.patience)
    first = np.ones((*grades.shape[:-1], 1), np.bool_)
    return np.logical_and.accumulate(np.concatenate([first, goes_on], axis=-1), axis=-1)[..., :-1]


@dataclass(frozen=True, slots=True)
class Population:
    """Who comes. Searches in a visit and seconds between them are lognormal: heavy-tailed, as shops see.

    `returning_share` of visitors come again, so that they have 2 visits and `mean_more_visits` more (geometric), each
    at a time of its own. `bot_share` are bots: `bot_searches` (median) in one visit, `bot_gap_s` seconds apart, that
    click any result with probability `bot_click`. Raises ValueError for what cannot be.
    """

    searches_median: float = 2.0
    searches_sigma: float = 1.0
    most_searches: int = 500  # of one visit
    gap_median_s: float = 25.0
    gap_sigma: float = 1.0
    returning_share: float = 0.3
    mean_more_visits: float = 1.0
    bot_share: float = 0.01
    bot_searches: float = 200.0
    bot_click: float = 0.5
    bot_gap_s: float = 0.5

    def __post_init__(self) -> None:
        _check_shares(self.returning_share, self.bot_share, self.bot_click)
        above = ("searches_median", "gap_median_s", "bot_searches", "bot_gap_s", "most_searches")
        at_least = ("searches_sigma", "gap_sigma", "mean_more_visits")
        for name in above + at_least:
            value = getattr(self, name)
            if not (0 < value < np.inf or (value == 0 and name in at_least)):
                raise ValueError(f"{name} {value}, expected a number {'from' if name in at_least else 'above'} 0")


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Searches in the order of time, columns of shape (searches,), and what is known of each visitor.

    `visitor` points into `is_bot` and `is_returning`, shape (visitors,); `visit` counts a visitor's visits from 0 in
    the order of time; `at_s` is in seconds from the start.
    """

    visitor: Ints
    visit: Ints
    at_s: Floats
    is_bot: Flags
    is_returning: Flags


def draw_visits(population: Population, visitors: int, days: float, rng: np.random.Generator) -> Visits:
    """Return the searches of so many visitors whose visits begin within so many days.

    Raises ValueError for no visitors or days.
    """
    if visitors < 1 or not 0 < days < np.inf:
        raise ValueError(f"{visitors} visitors in {days} days, expected at least 1, and more than 0")
    is_bot = rng.random(visitors) < population.bot_share
    is_returning = ~is_bot & (rng.random(visitors) < population.returning_share)
    more = rng.geometric(1 / (1 + population.mean_more_visits), visitors) - 1
    visitor = np.repeat(np.arange(visitors), np.where(is_returning, 2 + more, 1))
    starts = rng.random(len(visitor)) * days * DAY_S
    starts = starts[np.lexsort((starts, visitor))]
    visit = np.arange(len(visitor)) - np.searchsorted(visitor, visitor)
    row, at_s = _draw_times(population, starts, is_bot[visitor], rng)
    order = np.argsort(at_s, kind="stable")
    row = row[order]
    return Visits(visitor[row], visit[row], at_s[order], is_bot, is_returning)


def _draw_times(population: Population, starts: Floats, is_bot: Flags, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Return the visit's row and the time of each search, visit by visit; `starts` and `is_bot` are of each visit."""
    median = np.where(is_bot, population.bot_searches, population.searches_median)
    drawn = median * np.exp(population.searches_sigma * rng.standard_normal(len(starts)))
    row = np.repeat(np.arange(len(starts)), np.clip(drawn.round(), 1, population.most_searches).astype(np.int64))
    spread = population.gap_sigma * rng.standard_normal(len(row))
    gaps = np.where(is_bot[row], population.bot_gap_s, population.gap_median_s * np.exp(spread))
    first = np.searchsorted(row, np.arange(len(starts)))
    passed = np.cumsum(gaps)
    return row, starts[row] + passed - passed[first][row]


def click_blindly(grades: Grades, population: Population, rng: np.random.Generator) -> Behaviour:
    """Return what bots do with lists of results: look at all, click any, buy nothing."""
    shown = is_shown(grades)
    nothing = np.zeros(grades.shape, np.bool_)
    return Behaviour(shown, shown & (rng.random(grades.shape) < population.bot_click), nothing, nothing)


def draw_queries(count: int, queries: int, rng: np.random.Generator, *, exponent: float = 0.8) -> Ints:
    """Return `count` codes below `queries`, code c drawn in proportion to 1 / (c + 1)^exponent: a heavy tail (Zipf)."""
    shares = 1 / np.arange(1, queries + 1) ** exponent
    return rng.choice(queries, count, p=shares / shares.sum())
