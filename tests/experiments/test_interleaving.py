"""Team draft interleaving: the draft, its credit, and the verdict over visitors."""

import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy import optimize, stats

from experiments.interleaving import (
    CREDITS,
    Draft,
    Tally,
    Team,
    credit_impression,
    draft_teams,
    find_winner,
    measure_preference,
    sign_test,
    tally_visitors,
)

A, B, NEITHER = Team.A, Team.B, Team.NEITHER
ROUNDS = 4


def find_seeds() -> list[int]:
    """Return a seed for each way that the coins of the first rounds can fall, all equally likely."""
    found: dict[tuple[bool, ...], int] = {}
    for seed in range(400):
        coins = random.Random(seed)
        found.setdefault(tuple(coins.random() < 0.5 for _ in range(ROUNDS)), seed)
    assert len(found) == 2**ROUNDS
    return list(found.values())


SEEDS = find_seeds()


def draft_all(a: list[int], b: list[int], limit: int = 99, **options) -> Counter[tuple[tuple[int, Team], ...]]:
    """Return every draft that the coins can give, and of how many ways they can fall."""
    drafts = [draft_teams(a, b, limit=limit, seed=seed, **options) for seed in SEEDS]
    return Counter(tuple(zip(draft.product_ids, draft.teams, strict=True)) for draft in drafts)


def random_rankings(rng: random.Random, longest: int = 7) -> tuple[list[int], list[int]]:
    one, other = ([rng.randrange(10) for _ in range(rng.randrange(longest + 1))] for _ in range(2))
    return list(dict.fromkeys(one)), list(dict.fromkeys(other))


# --- drafting -----------------------------------------------------------------------------------------


def test_each_team_picks_its_best_product_not_yet_there():
    assert draft_all([1, 2, 3], [1, 4, 5], limit=4) == {
        ((1, A), (4, B), (2, A), (5, B)): 4,
        ((1, A), (4, B), (5, B), (2, A)): 4,
        ((1, B), (2, A), (3, A), (4, B)): 4,
        ((1, B), (2, A), (4, B), (3, A)): 4,
    }


def test_products_of_the_same_place_are_drafted_like_others():
    assert draft_all([1, 2], [1, 2]) == {((1, A), (2, B)): 8, ((1, B), (2, A)): 8}


def test_a_shared_prefix_can_belong_to_neither_team():
    assert draft_all([1, 2, 3], [1, 4, 3], limit=3, skips_shared_prefix=True) == {
        ((1, NEITHER), (2, A), (4, B)): 8,
        ((1, NEITHER), (4, B), (2, A)): 8,
    }
    assert draft_all([1, 2], [1, 2], skips_shared_prefix=True) == {((1, NEITHER), (2, NEITHER)): 16}
    assert draft_all([1, 2], [1, 2], limit=1, skips_shared_prefix=True) == {((1, NEITHER),): 16}


def test_what_only_one_ranking_has_left_belongs_to_neither_team():
    assert draft_all([1], [2, 3, 4]) == {
        ((1, A), (2, B), (3, NEITHER), (4, NEITHER)): 8,
        ((2, B), (1, A), (3, NEITHER), (4, NEITHER)): 8,
    }
    assert draft_all([1, 2], [1]) == {((1, A), (2, NEITHER)): 8, ((1, B), (2, NEITHER)): 8}
    assert draft_all([], [2, 3]) == {((2, NEITHER), (3, NEITHER)): 16}
    assert draft_all([], []) == {(): 16}


def test_a_product_twice_in_a_ranking_is_drafted_once():
    assert draft_all([1, 1, 2], [3, 1, 3, 4]) == draft_all([1, 2], [3, 1, 4])


@pytest.mark.parametrize("skips_shared_prefix", [False, True])
def test_every_product_is_shown_once_and_nothing_else(skips_shared_prefix):
    rng = random.Random(1)
    for seed in range(300):
        a, b = random_rankings(rng)
        draft = draft_teams(a, b, limit=99, seed=seed, skips_shared_prefix=skips_shared_prefix)
        assert sorted(draft.product_ids) == sorted({*a, *b})
        assert len(draft.teams) == len(draft.product_ids)
        for team, ranking in ((A, a), (B, b)):
            picks = [one for one, its in zip(draft.product_ids, draft.teams, strict=True) if its == team]
            assert picks == [one for one in ranking if one in picks]


@pytest.mark.parametrize("skips_shared_prefix", [False, True])
def test_every_position_is_as_often_of_one_team_as_of_the_other(skips_shared_prefix):
    # Then clicks by chance, whatever their bias to the top, favour neither; also where one ranking is shorter.
    rng = random.Random(2)
    for _ in range(100):
        a, b = random_rankings(rng, ROUNDS)
        teams = [
            draft_teams(a, b, limit=99, seed=seed, skips_shared_prefix=skips_shared_prefix).teams for seed in SEEDS
        ]
        for position in zip(*teams, strict=True):
            assert position.count(A) == position.count(B)


def test_swapping_the_rankings_swaps_the_teams():
    other = {A: B, B: A, NEITHER: NEITHER}
    rng = random.Random(3)
    for _ in range(50):
        a, b = random_rankings(rng, ROUNDS)
        swapped = Counter(
            {tuple((one, other[team]) for one, team in draft): count for draft, count in draft_all(b, a).items()}
        )
        assert draft_all(a, b) == swapped


def test_page_two_continues_page_one():
    rng = random.Random(4)
    for seed in range(100):
        a, b = rng.sample(range(60), 50), rng.sample(range(60), 50)
        whole = draft_teams(a, b, limit=99, seed=seed)
        for limit in (0, 1, 7, 24, 48):
            cut = draft_teams(a[:limit], b[:limit], limit=limit, seed=seed)
            assert cut == draft_teams(a, b, limit=limit, seed=seed)
            assert cut == Draft(whole.product_ids[:limit], whole.teams[:limit])


def test_a_seed_gives_the_same_draft_in_every_process():
    # Pinned: with other drafts, page 2 would not continue a page 1 that was shown before.
    draft = draft_teams([1, 2, 3, 4], [5, 2, 6, 1], limit=6, seed="visitor:red shoes")
    assert draft == Draft((5, 1, 2, 3, 6, 4), (B, A, B, A, B, A))


def test_seeds_give_all_drafts():
    shown = Counter(draft_teams([1, 2, 3], [4, 5, 6], limit=6, seed=f"visitor-{number}") for number in range(800))
    assert len(shown) == 8
    assert stats.chisquare(list(shown.values())).pvalue > 0.01


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match="limit=-1: expected 0 or more"):
        draft_teams([1], [2], limit=-1, seed=1)


# --- credit -------------------------------------------------------------------------------------------

DRAFT = Draft((10, 20, 30, 40), (A, B, A, NEITHER))


@pytest.mark.parametrize(
    ("actions", "net", "winner"),
    [
        ([], 0, NEITHER),
        ([(10, "click")], 1, A),
        ([(10, "click"), (20, "click")], 0, NEITHER),
        ([(10, "click"), (30, "click"), (20, "click")], 1, A),
        ([(20, "click"), (20, "click"), (10, "click")], 0, NEITHER),
        ([(10, "click"), (30, "click"), (20, "click"), (20, "add_to_cart")], -2, B),
        ([(20, "click"), (20, "add_to_cart"), (10, "click"), (10, "purchase")], 7, A),
        ([(40, "click"), (40, "purchase")], 0, NEITHER),
    ],
)
def test_teams_earn_what_their_products_earned(actions, net, winner):
    assert credit_impression(DRAFT, actions) == net
    assert find_winner(credit_impression(DRAFT, actions)) == winner


def test_credits_are_the_shops_choice():
    actions = [(10, "click"), (20, "purchase")]
    assert credit_impression(DRAFT, actions, {"click": 1, "purchase": 0}) == 1
    assert credit_impression(DRAFT, actions, {"click": 1, "purchase": 5}) == -4


def test_rounding_wins_nothing():
    draft = Draft((1, 2, 3, 4), (A, A, A, B))
    credits = {"click": 0.1, "purchase": 0.3}
    net = credit_impression(draft, [(1, "click"), (2, "click"), (3, "click"), (4, "purchase")], credits)
    assert find_winner(net) == NEITHER


@pytest.mark.parametrize(
    ("actions", "credits", "message"),
    [
        ([(50, "click")], CREDITS, "product 50 was not shown in this impression"),
        ([(10, "clik")], CREDITS, "no credit for 'clik', expected one of: click, add_to_cart, purchase"),
        ([], {"click": -1}, "credit -1 of 'click': expected a number, 0 or more"),
        ([], {"click": math.nan}, "credit nan of 'click'"),
    ],
)
def test_what_cannot_be_credited_is_refused(actions, credits, message):
    with pytest.raises(ValueError, match=message):
        credit_impression(DRAFT, actions, credits)


def test_a_visitor_counts_once_however_much_they_search():
    assert tally_visitors([50, -1, -1, 0, 0]) == Tally(wins_a=1, wins_b=2, ties=2)


def test_nobody_came():
    assert tally_visitors([]) == Tally(0, 0, 0)


@pytest.mark.parametrize("nets", [[[1, 2]], [1, math.nan], [math.inf]])
def test_what_is_no_number_for_each_visitor_is_refused(nets):
    with pytest.raises(ValueError, match=r"nets of shape .*: expected one finite number for each visitor"):
        tally_visitors(nets)


# --- the verdict --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins_a", "wins_b", "p_value"),
    [
        (60, 40, 0.0568879336),
        (40, 60, 0.0568879336),
        (3, 0, 2 / 8),
        (1, 4, 2 * (1 + 5) / 32),
        (5, 5, 1),
        (0, 0, 1),
    ],
)
def test_the_sign_test_is_exact_and_knows_no_ties(wins_a, wins_b, p_value):
    assert sign_test(wins_a, wins_b) == pytest.approx(p_value, rel=1e-6)
    assert measure_preference(Tally(wins_a, wins_b, 77)).p_value == sign_test(wins_a, wins_b)


def test_the_sign_test_is_scipys():
    rng = np.random.default_rng(5)
    for wins_a, wins_b in rng.integers(0, 300, (50, 2)):
        expected = stats.binomtest(wins_a, wins_a + wins_b).pvalue if wins_a + wins_b else 1
        assert sign_test(wins_a, wins_b) == pytest.approx(expected)


def test_the_preference_counts_ties_as_half_a_win():
    assert measure_preference(Tally(60, 40, 0)).delta == pytest.approx(0.6 - 0.5)
    assert measure_preference(Tally(60, 40, 100)).delta == pytest.approx((60 + 50) / 200 - 0.5)
    assert measure_preference(Tally(0, 0, 3)).delta == 0


def test_swapping_a_and_b_turns_the_preference_round():
    one, other = measure_preference(Tally(30, 12, 9)), measure_preference(Tally(12, 30, 9))
    assert [other.delta, other.low, other.high] == pytest.approx([-one.delta, -one.high, -one.low])


def score_by_likelihood(tally: Tally, delta: float) -> float:
    """Return the corrected score statistic at a true `delta`, P(loss) found by maximising the likelihood itself."""
    counts = np.array([tally.wins_a, tally.wins_b, tally.ties])
    difference, total = 2 * delta, tally.total

    def cost(p_loss: float) -> float:
        chances = np.array([p_loss + difference, p_loss, 1 - 2 * p_loss - difference])
        return -float(np.sum(counts * np.log(np.maximum(chances, 1e-300))))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    p_loss = optimize.minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    deviation = math.sqrt(total * (2 * p_loss + difference * (1 - difference)))
    return (abs(tally.wins_a - tally.wins_b - total * difference) - 1) / deviation


@pytest.mark.parametrize("counts", [(7, 1, 13), (1, 7, 13), (60, 40, 0), (300, 280, 5000), (3, 0, 9)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_score_test_just_rejects_the_ends_of_the_interval(counts, confidence):
    preference = measure_preference(Tally(*counts), confidence=confidence)
    assert preference.low < preference.delta < preference.high
    z = stats.norm.ppf((1 + confidence) / 2)
    for end in (preference.low, preference.high):
        assert score_by_likelihood(preference.tally, end) == pytest.approx(z, abs=1e-4)


def test_the_interval_ends_where_nothing_more_is_possible():
    assert measure_preference(Tally(0, 10, 0)).low == -0.5
    assert measure_preference(Tally(10, 0, 0)).high == 0.5
    assert measure_preference(Tally(1, 0, 0)).low < -0.4


def test_an_interval_without_0_is_significant_and_the_other_way_round():
    for total, ties in product([*range(1, 80), 301, 1001], [0, 1, 500]):
        for wins in range(total // 2, total + 1):
            found = measure_preference(Tally(wins, total - wins, ties))
            if found.low > 0:
                assert found.p_value < 0.05
            elif found.p_value < 0.05:
                assert found.p_value > 0.0487
                assert found.low > -0.006


@pytest.mark.parametrize("total", [10, 40])
def test_the_interval_covers_in_95_of_100_whatever_the_truth(total):
    # By counting all outcomes, not by drawing them.
    outcomes = [Tally(a, b, total - a - b) for a in range(total + 1) for b in range(total + 1 - a)]
    counts = np.array([[each.wins_a, each.wins_b, each.ties] for each in outcomes])
    found = [measure_preference(each) for each in outcomes]
    lows, highs = np.array([each.low for each in found]), np.array([each.high for each in found])
    for win, loss in product(np.arange(0, 1.01, 0.1), np.arange(0, 1.01, 0.1)):
        if win + loss > 1.001:
            continue
        delta = (win - loss) / 2
        is_covered = (lows - 1e-9 <= delta) & (delta <= highs + 1e-9)
        chances = stats.multinomial.pmf(counts, total, [win, loss, max(0.0, 1 - win - loss)])
        assert chances[is_covered].sum() >= 0.95


def test_the_interval_covers_in_large_tests_and_is_not_needlessly_wide():
    rng = np.random.default_rng(6)
    for chances in ([0.1, 0.08, 0.82], [0.45, 0.05, 0.5], [0.3, 0.3, 0.4]):
        delta = (chances[0] - chances[1]) / 2
        draws = rng.multinomial(3000, chances, size=1500).tolist()
        found = [measure_preference(Tally(*counts)) for counts in draws]
        assert 0.94 <= np.mean([each.low <= delta <= each.high for each in found]) <= 0.97


def test_identical_rankings_are_told_apart_in_at_most_5_of_100_tests():
    # 120 visitors of 1 to 6 searches in the same ranking twice; the first products are clicked most.
    rng = np.random.default_rng(7)
    ranking = list(range(10))
    sides = {A: 1, B: -1, NEITHER: 0}
    drafts = np.array([[sides[team] for team in draft_teams(ranking, ranking, limit=10, seed=s).teams] for s in SEEDS])
    alarms = []
    for _ in range(1000):
        visitors = np.repeat(np.arange(120), rng.integers(1, 7, 120))
        clicks = rng.random((len(visitors), 10)) < 0.5 / np.arange(1, 11)
        wins = np.sign((drafts[rng.integers(0, len(drafts), len(visitors))] * clicks).sum(axis=1))
        tally = tally_visitors(np.bincount(visitors, wins, minlength=120))
        alarms.append(measure_preference(tally).p_value < 0.05)
    assert 0.02 <= np.mean(alarms) <= 0.055


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: measure_preference(Tally(0, 0, 0)), "no visitors to measure a preference of"),
        (lambda: measure_preference(Tally(1, 0, 0), confidence=95), "confidence=95: expected a probability"),
        (lambda: Tally(1, -1, 0), "1 wins, -1 losses, 0 ties: expected counts"),
    ],
)
def test_what_cannot_be_measured_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action()
