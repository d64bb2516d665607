"""Two rankings shown as one, and which of them shoppers chose from: team draft interleaving.

Drafting and its credit: Radlinski, Kurup and Joachims 2008, "How Does Clickthrough Data Reflect Retrieval Quality?".
Everything here is told from A's side: above 0 is for A.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, takewhile
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

TIE = 1e-9  # credits no further apart are rounding
# By kind of event. The paper counts clicks; that a purchase outweighs a few of them is the shop's choice.
CREDITS: Mapping[str, float] = {"click": 1.0, "add_to_cart": 3.0, "purchase": 10.0}
HALVINGS = 60  # of an interval 2 wide: beyond a float's precision


class Team(StrEnum):
    A = "a"
    B = "b"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Draft:
    """What is shown, in order, and the team of each position."""

    product_ids: tuple[int, ...]
    teams: tuple[Team, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many visitors preferred A, how many B, and how many neither. Raises ValueError for counts below 0."""

    wins_a: int
    wins_b: int
    ties: int

    def __post_init__(self) -> None:
        if min(self.wins_a, self.wins_b, self.ties) < 0:
            raise ValueError(f"{self.wins_a} wins, {self.wins_b} losses, {self.ties} ties: expected counts, 0 or more")

    @property
    def total(self) -> int:
        return self.wins_a + self.wins_b + self.ties


@dataclass(frozen=True, slots=True)
class Preference:
    """How much A is preferred over B, -0.5 to 0.5, its confidence interval, and the sign test's p-value."""

    tally: Tally
    delta: float
    low: float
    high: float
    p_value: float


# --- drafting -----------------------------------------------------------------------------------------


def draft_teams(
    a: Sequence[int], b: Sequence[int], *, limit: int, seed: int | str, skips_shared_prefix: bool = False
) -> Draft:
    """Return the first `limit` products of both rankings interleaved, each product once.

    In each round a coin decides which team picks first; each picks its best product not yet there. When a ranking
    has nothing left, what the other has left follows and belongs to neither team: being longer wins nothing. A round
    that both can start is played to its end (the paper stops within it, which favours the shorter ranking).

    The same seed, say of visitor and query, gives the same draft in every process, and a larger limit continues it:
    page 2 follows page 1, as long as both rankings go `limit` deep or are whole.

    `skips_shared_prefix`: products on which the rankings agree from the top on belong to neither team, too. A choice
    of them tells nothing, only adds noise; the paper drafts them.

    Raises ValueError for a limit below 0.
    """
    if limit < 0:
        raise ValueError(f"limit={limit}: expected 0 or more")
    drafted = dict.fromkeys(_find_shared_prefix(a, b) if skips_shared_prefix else [], Team.NEITHER)
    _play_rounds(a, b, drafted, limit, random.Random(seed))
    for product_id in chain(a, b):
        drafted.setdefault(product_id, Team.NEITHER)
    return Draft(tuple(drafted)[:limit], tuple(drafted.values())[:limit])


def _find_shared_prefix(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))]


def _play_rounds(
    a: Sequence[int], b: Sequence[int], drafted: dict[int, Team], limit: int, coins: random.Random
) -> None:
    """Add both teams' picks, until there are `limit` products or one ranking has nothing left."""
    queues = {Team.A: deque(a), Team.B: deque(b)}
    while len(drafted) < limit and (heads := _find_heads(queues, drafted)):
        # Of all that coins can draw, only random() is the same in every version of Python.
        first, second = (Team.A, Team.B) if coins.random() < 0.5 else (Team.B, Team.A)
        drafted[heads[first]] = first
        if heads[first] == heads[second] and not (heads := _find_heads(queues, drafted)):
            return
        drafted[heads[second]] = second


def _find_heads(queues: Mapping[Team, deque[int]], drafted: Collection[int]) -> dict[Team, int]:
    """Return each team's best product not drafted yet, nothing if a team has none; those before it leave the queue."""
    for queue in queues.values():
        while queue and queue[0] in drafted:
            queue.popleft()
    return {team: queue[0] for team, queue in queues.items()} if all(queues.values()) else {}


# --- credit -------------------------------------------------------------------------------------------


def credit_impression(
    draft: Draft, actions: Iterable[tuple[int, str]], credits: Mapping[str, float] = CREDITS
) -> float:
    """Return the credit of team A's products minus that of team B's in one showing of the draft.

    `actions`: the products acted on and the kinds of event; repeated ones count once, as results clicked do in the
    paper. `credits`: of each kind, 0 or more. Raises ValueError for other kinds, and for products not shown.
    """
    _check_credits(credits)
    teams = dict(zip(draft.product_ids, draft.teams, strict=True))
    earned: dict[Team, list[float]] = {team: [] for team in Team}
    for product_id, kind in set(actions):
        if product_id not in teams:
            raise ValueError(f"product {product_id} was not shown in this impression: credit it where it was")
        if kind not in credits:
            raise ValueError(
                f"no credit for {kind!r}, expected one of: {', '.join(credits)}; give it 0 or leave it out"
            )
        earned[teams[product_id]].append(credits[kind])
    return math.fsum(earned[Team.A]) - math.fsum(earned[Team.B])


def _check_credits(credits: Mapping[str, float]) -> None:
    for kind, credit in credits.items():
        if not 0 <= credit < math.inf:
            raise ValueError(f"credit {credit} of {kind!r}: expected a number, 0 or more")


def find_winner(net_credit: float) -> Team:
    """Return the team that a net credit is for."""
    if abs(net_credit) <= TIE:
        return Team.NEITHER
    return Team.A if net_credit > 0 else Team.B


def tally_visitors(nets: npt.ArrayLike) -> Tally:
    """Return whom the visitors preferred, `nets` being one number for each, shape (n,).

    Visitors, not impressions, are counted: what one visitor does is not independent. Those who chose nothing are
    ties. Raises ValueError for another shape or what is no number.
    """
    values = np.asarray(nets, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"nets of shape {values.shape}: expected one finite number for each visitor")
    wins_a, wins_b = int((values > TIE).sum()), int((values < -TIE).sum())
    return Tally(wins_a, wins_b, len(values) - wins_a - wins_b)


# --- the verdict --------------------------------------------------------------------------------------


def measure_preference(tally: Tally, *, confidence: float = 0.95) -> Preference:
    """Return by how much A is preferred: delta = (wins + ties / 2) / visitors - 0.5, Chapelle et al. 2012.

    Interval and p-value hold for one look, at a number of visitors fixed before. Where the interval of 95 % leaves 0
    out, the p-value is below 0.05; where it does not, it is above 0.048. Raises ValueError without visitors.
    """
    if not tally.total:
        raise ValueError("no visitors to measure a preference of, expected at least one")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: expected a probability between 0 and 1, such as 0.95")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low = _find_low(tally.wins_a, tally.wins_b, tally.total, z) / 2
    high = -_find_low(tally.wins_b, tally.wins_a, tally.total, z) / 2
    delta = (tally.wins_a - tally.wins_b) / tally.total / 2
    return Preference(tally, delta, low, high, sign_test(tally.wins_a, tally.wins_b))


def sign_test(wins_a: int, wins_b: int) -> float:
    """Return the two-sided p-value of the exact sign test, ties left out; 1 where nobody decided."""
    from scipy.special import bdtr  # takes a second to load, and searches that only draft do without

    if not wins_a + wins_b:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(wins_a, wins_b), wins_a + wins_b, 0.5)))


def _find_low(wins: int, losses: int, total: int, z: float) -> float:
    """Return the lower limit of P(win) - P(loss): the least that a score test does not reject.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", with the continuity correction of Edwards 1948, which brings it in line with the exact sign test.
    """
    low, high = -1.0, (wins - losses) / total
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        distance = wins - losses - total * middle - 1
        if distance > z * _find_deviation(wins, losses, total, middle):
            low = middle
        else:
            high = middle
    return low


def _find_deviation(wins: int, losses: int, total: int, difference: float) -> float:
    """Return the standard deviation of wins - losses where P(win) - P(loss) is `difference`.

    P(loss) is then the root of Tango's quadratic, its likeliest value.
    """
    linear = (2 * total - wins + losses) * difference - wins - losses
    constant = -losses * difference * (1 - difference)
    p_loss = (math.sqrt(max(linear**2 - 8 * total * constant, 0.0)) - linear) / (4 * total)
    return math.sqrt(max(total * (2 * p_loss + difference * (1 - difference)), 0.0))
