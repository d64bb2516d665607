"""Simulated shoppers do what their model says, in the mean and at its edges."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.shoppers import (
    DAY_S,
    Population,
    ShopperModel,
    click_blindly,
    draw_queries,
    draw_visits,
    examine,
    shop,
)

PBM = ShopperModel(noise=0)
CRASWELL = ShopperModel("cascade", noise=0, patience=1, satisfied=(1, 1, 1, 1))
LIST = np.array([0, 3, 1, 3, 2])
MANY = np.tile(LIST, (40_000, 1))


def make_rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_pbm_shoppers_click_by_position_times_grade():
    found = shop(MANY, PBM, make_rng())
    examination = np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert examine(PBM, 5) == pytest.approx(examination)
    assert found.examined.mean(axis=0) == pytest.approx(examination, abs=0.01)
    assert found.clicks.mean(axis=0) == pytest.approx(examination * np.array([0.03, 0.5, 0.1, 0.5, 0.25]), abs=0.01)


def test_eta_says_how_steeply_attention_falls():
    assert examine(replace(PBM, eta=2), 3) == pytest.approx([1, 1 / 4, 1 / 9])
    assert shop(MANY, replace(PBM, eta=0), make_rng()).examined.all()


def test_the_cascade_clicks_the_first_that_attracts_and_stops():
    found = shop(MANY, CRASWELL, make_rng())
    assert found.clicks.sum(axis=1).max() == 1
    # P(click at r) = click(r) * product of (1 - click) above it: Craswell et al. 2008.
    attracts = np.array([0.03, 0.5, 0.1, 0.5, 0.25])
    looked = np.cumprod(np.append(1, 1 - attracts[:-1]))
    assert found.examined.mean(axis=0) == pytest.approx(looked, abs=0.01)
    assert found.clicks.mean(axis=0) == pytest.approx(looked * attracts, abs=0.01)


def test_cascading_shoppers_leave_without_patience_and_go_on_unless_satisfied():
    restless = replace(CRASWELL, patience=0.5, click=(0, 0, 0, 0))
    assert shop(MANY, restless, make_rng()).examined.mean(axis=0) == pytest.approx(0.5 ** np.arange(5), abs=0.01)
    insatiable = replace(CRASWELL, satisfied=(0, 0, 0, 0), click=(1, 1, 1, 1))
    assert shop(MANY, insatiable, make_rng()).clicks.all()


@pytest.mark.parametrize("model", [PBM, CRASWELL])
def test_only_what_was_clicked_is_added_and_only_what_was_added_is_bought(model):
    found = shop(MANY, model, make_rng())
    assert not (found.clicks & ~found.examined).any()
    assert not (found.adds & ~found.clicks).any()
    assert not (found.purchases & ~found.adds).any()
    best = LIST == 3
    assert found.adds[:, best].sum() / found.clicks[:, best].sum() == pytest.approx(0.4, abs=0.02)
    assert found.purchases[:, best].sum() / found.adds[:, best].sum() == pytest.approx(0.6, abs=0.03)


def test_noise_is_the_same_for_all_grades():
    noisy = replace(PBM, noise=0.2, click=(0, 0.2, 0.4, 0.6))
    assert noisy.click_probability(np.arange(4)) == pytest.approx([0.06, 0.22, 0.38, 0.54])
    assert replace(noisy, noise=1).click_probability(np.arange(4)) == pytest.approx([0.3] * 4)


def test_floats_are_relevance_between_the_lowest_and_the_highest_grade():
    model = replace(PBM, click=(0, 0.1, 0.3, 0.9))
    relevance = np.array([0, 1 / 3, 0.5, 1])
    assert model.click_probability(relevance) == pytest.approx([0, 0.1, 0.2, 0.9])
    assert model.click_probability(np.array([1])) == pytest.approx([0.1])  # a whole number is a grade


@pytest.mark.parametrize("grades", [np.array([[3, -1, 3, -1]]), np.array([[1, np.nan, 1, np.nan]])])
def test_places_without_a_product_are_passed_over(grades):
    eager = replace(PBM, eta=0, click=(1, 1, 1, 1), add=(1, 1, 1, 1), purchase=(1, 1, 1, 1), satisfied=(0, 0, 0, 0))
    for model in (eager, replace(eager, kind="cascade", patience=1)):
        found = shop(grades, model, make_rng())
        for each in (found.examined, found.clicks, found.adds, found.purchases):
            assert each.tolist() == [[True, False, True, False]]
    assert click_blindly(grades, Population(bot_click=1), make_rng()).clicks.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("model", [PBM, CRASWELL])
def test_one_list_no_results_and_no_lists_keep_their_shape(model):
    for shape in ((5,), (0,), (3, 0), (0, 5), (2, 3, 5)):
        found = shop(np.ones(shape, np.int64), model, make_rng())
        assert found.examined.shape == found.clicks.shape == found.adds.shape == found.purchases.shape == shape


def test_the_same_seed_does_the_same():
    for model in (PBM, CRASWELL):
        first, again, other = (shop(MANY, model, make_rng(seed)).clicks for seed in (3, 3, 4))
        assert (first == again).all()
        assert (first != other).any()


@pytest.mark.parametrize(
    ("grades", "reason"),
    [
        (np.array([0, 4]), "grades are 0 to 4, expected 0 to 3 as int64"),
        (np.array([-2, 1]), "grades are -2 to 1"),
        (np.array([0.5, 2.0]), "expected 0 to 1 as float64"),
    ],
)
def test_grades_beyond_are_refused(grades, reason):
    with pytest.raises(ValueError, match=reason):
        shop(grades, PBM, make_rng())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "dbn"}, "unknown kind of shopper 'dbn', expected one of: pbm, cascade"),
        ({"eta": -1.0}, r"eta -1\.0, expected 0"),
        ({"noise": 1.1}, r"probability 1\.1, expected 0 to 1"),
        ({"patience": float("nan")}, "probability nan"),
        ({"click": (0.1, 0.2)}, "the same number of each"),
        ({"add": (0, 0, 0, 2.0)}, r"probability 2\.0"),
    ],
)
def test_models_that_cannot_be_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        ShopperModel(**settings)


def test_visitors_search_at_least_once_and_a_few_very_often():
    visits = draw_visits(Population(returning_share=0, bot_share=0), 20_000, 7, make_rng())
    searches = np.bincount(visits.visitor)
    assert len(searches) == 20_000
    assert searches.min() == 1
    assert np.median(searches) == 2
    assert searches.mean() == pytest.approx(2 * np.exp(0.5), rel=0.05)  # the lognormal's, far above the median
    assert np.sort(searches)[-200:].sum() > 0.08 * searches.sum()  # one in a hundred does more than a twelfth


def test_searches_are_in_the_order_of_time_and_visits_begin_within_the_days():
    visits = draw_visits(Population(), 2000, 7, make_rng())
    assert (np.diff(visits.at_s) >= 0).all()
    _, first = np.unique(np.column_stack([visits.visitor, visits.visit]), axis=0, return_index=True)
    assert 0 <= visits.at_s[first].min() <= visits.at_s[first].max() < 7 * DAY_S
    assert visits.at_s[first].max() > 6.9 * DAY_S


def test_returning_visitors_and_only_they_have_several_visits():
    population = Population(returning_share=0.4, mean_more_visits=1.5)
    visits = draw_visits(population, 20_000, 30, make_rng())
    count = np.zeros(20_000, np.int64)
    np.maximum.at(count, visits.visitor, visits.visit + 1)
    assert (count[~visits.is_returning] == 1).all()
    assert (count[visits.is_returning] >= 2).all()
    assert visits.is_returning.mean() == pytest.approx(0.4 * 0.99, abs=0.01)
    assert count[visits.is_returning].mean() == pytest.approx(2 + 1.5, abs=0.05)
    starts = np.full((20_000, count.max()), np.inf)
    np.minimum.at(starts, (visits.visitor, visits.visit), visits.at_s)
    assert all((np.diff(row[:visited]) > 0).all() for row, visited in zip(starts, count, strict=True))


def test_bots_search_much_and_fast_and_buy_nothing():
    visits = draw_visits(Population(bot_share=0.1, returning_share=0), 2000, 7, make_rng())
    searches = np.bincount(visits.visitor)
    assert visits.is_bot.mean() == pytest.approx(0.1, abs=0.02)
    assert np.median(searches[visits.is_bot]) > 50 * np.median(searches[~visits.is_bot])
    bot = np.flatnonzero(visits.is_bot)[0]
    assert np.diff(visits.at_s[visits.visitor == bot]) == pytest.approx(0.5, abs=1e-6)
    found = click_blindly(MANY, Population(bot_click=0.7), make_rng())
    assert found.clicks.mean(axis=0) == pytest.approx([0.7] * 5, abs=0.01)
    assert not found.purchases.any()
    assert not found.adds.any()


def test_a_visit_has_no_more_searches_than_allowed():
    visits = draw_visits(Population(bot_share=1, most_searches=30), 100, 1, make_rng())
    assert np.bincount(visits.visitor).max() == 30


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bot_share": 1.5}, r"probability 1\.5"),
        ({"searches_median": 0.0}, r"searches_median 0\.0, expected a number above 0"),
        ({"gap_sigma": -1.0}, r"gap_sigma -1\.0, expected a number from 0"),
        ({"most_searches": 0}, "most_searches 0"),
        ({"bot_gap_s": float("nan")}, "bot_gap_s nan"),
    ],
)
def test_populations_that_cannot_be_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        Population(**settings)


@pytest.mark.parametrize(("visitors", "days"), [(0, 1.0), (5, 0.0), (5, float("nan"))])
def test_no_visitors_or_days_are_refused(visitors, days):
    with pytest.raises(ValueError, match="expected at least 1, and more than 0"):
        draw_visits(Population(), visitors, days, make_rng())


def test_queries_have_a_heavy_tail():
    counts = np.bincount(draw_queries(100_000, 50, make_rng(), exponent=1), minlength=50)
    shares = 1 / np.arange(1, 51)
    assert counts / 100_000 == pytest.approx(shares / shares.sum(), abs=0.005)
