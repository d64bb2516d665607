"""What clicks say of relevance: counts, COEC, the position-based model, propensities and grades."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import beta, chi2, spearmanr

from experiments.clicks.coec import estimate_coec, measure_position_ctr
from experiments.clicks.grades import grade_by_best
from experiments.clicks.log import ClickLog, PositionCurve, build_log, keep_shown, sum_log
from experiments.clicks.pbm import Prior, fit_pbm
from experiments.clicks.pbm_intervals import bound_attractiveness, measure_curvature, measure_variances
from experiments.clicks.propensity import estimate_ipw
from experiments.clicks.relevance import Relevance, bound_sums

EXAMINATION = np.array([1, 0.6, 0.4, 0.25, 0.15])


def make_cells(*rows: tuple[int, int, int, int, int]):
    """Rows are query, product, position, clicks, impressions."""
    return sum_log(build_log(*np.array(rows).T))


def simulate(seed: int, *, searches: int = 20_000, queries: int = 20, is_shuffled: bool = True):
    """Return cells of shuffled lists and the planted attractiveness by query and product."""
    rng, results = np.random.default_rng(seed), len(EXAMINATION)
    attractiveness = rng.uniform(0.05, 0.7, (queries, results))
    query = rng.integers(0, queries, searches)
    order = (
        np.argsort(rng.random((searches, results)), axis=1) if is_shuffled else np.tile(range(results), (searches, 1))
    )
    clicks = rng.random(order.shape) < attractiveness[query[:, None], order] * EXAMINATION
    log = build_log(
        np.repeat(query, results), order.ravel(), np.tile(np.arange(1, results + 1), searches), clicks.ravel()
    )
    return sum_log(log), attractiveness


def test_impressions_are_summed_by_query_product_and_position():
    log = build_log([7, 7, 7, 3, 7], [5, 5, 5, 5, 9], [1, 2, 1, 1, 2], [1, 0, 0, 1, 0])
    cells = sum_log(log)
    assert list(zip(cells.query, cells.product, strict=True)) == [(3, 5), (7, 5), (7, 9)]
    assert cells.positions.tolist() == [1, 2]
    assert cells.pair.tolist() == [0, 1, 1, 2]
    assert cells.place.tolist() == [0, 0, 1, 1]
    assert cells.impressions.tolist() == [1, 2, 1, 1]
    assert cells.clicks.tolist() == [1, 1, 0, 0]
    assert cells.per_pair(cells.impressions).tolist() == [1, 3, 1]
    assert cells.per_position(cells.clicks).tolist() == [2, 0]


def test_days_merged_or_summed_first_give_the_same_cells():
    monday = build_log([1, 1, 2], [4, 5, 4], [1, 2, 3], [1, 0, 1])
    tuesday = build_log([1, 2], [4, 4], [1, 3], [5, 2], [20, 30])
    whole, of_sums = sum_log(monday + tuesday), sum_log(sum_log(monday).to_log() + sum_log(tuesday).to_log())
    for name in ("query", "product", "positions", "pair", "place", "impressions", "clicks"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(of_sums, name))
    assert whole.impressions.tolist() == [21, 1, 31]


def test_codes_may_be_any_whole_numbers():
    cells = make_cells((2**62, -(2**62), 1000, 1, 2), (-1, 2**62, 1, 0, 1), (2**62, -(2**62), 1000, 1, 1))
    assert cells.query.tolist() == [-1, 2**62]
    assert cells.product.tolist() == [2**62, -(2**62)]
    assert cells.positions.tolist() == [1, 1000]
    assert cells.impressions.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        (([1, 1], [1, 2], [1, 0], [0, 0]), "position 0 is below 1"),
        (([1, 1], [1, 2], [1, 2], [0, 2]), "row 1 has 2 clicks of 1 impressions"),
        (([1], [1], [1], [-1]), "row 0 has -1 clicks"),
        (([1], [1], [1], [0], [0]), "0 impressions in a row"),
        (([1, 2], [1], [1], [0]), "the same length"),
        (([[1]], [[1]], [[1]], [[0]]), "one dimension"),
        (([], [], [], []), "the log has no impressions"),
        (([1.5], [1], [1], [0]), "query holds float64, expected whole numbers"),
        ((np.array([1], np.uint64), [1], [1], [0]), "query holds uint64"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns, reason):
    with pytest.raises(ValueError, match=reason):
        build_log(*columns)


def test_a_log_made_by_hand_is_checked_too():
    one = np.array([1])
    with pytest.raises(ValueError, match="position -1 is below 1"):
        ClickLog(one, one, -one, one, one)


def test_a_curve_is_looked_up_by_position_and_knows_no_others():
    curve = PositionCurve(np.array([1, 2, 5]), np.array([1, 0.5, 0.2]))
    assert curve.at(np.array([5, 1, 5])).tolist() == [0.2, 1, 0.2]
    for position in (3, 9):
        with pytest.raises(ValueError, match=f"no value for position {position}, only for some or all of 1 to 5"):
            curve.at(np.array([1, position]))
    with pytest.raises(ValueError, match=r"0\.5 to 1\.5, expected 0 to 1"):
        PositionCurve.from_first([0.5, 1.5])
    with pytest.raises(ValueError, match="positions ascending"):
        PositionCurve(np.array([2, 1]), np.array([1.0, 1]))


def test_coec_divides_clicks_by_those_expected_at_their_positions():
    found = estimate_coec(make_cells((1, 1, 2, 12, 50)), PositionCurve.from_first([0.30, 0.10, 0.05]))
    assert found.estimate == pytest.approx([2.4])
    # The exact Poisson interval of 12 is 6.2006 to 20.9616 in every table; 5 clicks were expected.
    assert [found.low[0], found.high[0]] == pytest.approx([6.2006 / 5, 20.9616 / 5], abs=1e-4)
    assert (found.clicks[0], found.impressions[0], found.examined[0]) == (12, 50, pytest.approx(50 / 3))


def test_coec_takes_the_logs_own_ctr_of_each_position():
    cells = make_cells((1, 1, 1, 30, 50), (1, 2, 1, 10, 50), (1, 1, 2, 0, 10), (1, 2, 2, 10, 90))
    assert measure_position_ctr(cells).values.tolist() == [0.4, 0.1]
    found = estimate_coec(cells)
    assert found.estimate == pytest.approx([30 / (50 * 0.4 + 10 * 0.1), 20 / (50 * 0.4 + 90 * 0.1)])


def test_coec_knows_nothing_where_no_click_was_expected():
    found = estimate_coec(make_cells((1, 1, 1, 3, 10), (1, 2, 2, 0, 10)))
    assert np.isnan(found.estimate[1])
    assert (found.low[1], found.high[1], found.examined[1]) == (0, np.inf, 0)
    with pytest.raises(ValueError, match="no clicks at any position"):
        estimate_coec(make_cells((1, 1, 1, 0, 10)))


def test_weighting_by_propensity_is_as_worked_by_hand():
    cells = make_cells((1, 1, 1, 2, 10), (1, 1, 2, 1, 10))
    curve = PositionCurve.from_first([1, 0.25])

    def estimate(**options):
        return estimate_ipw(cells, curve, **options).estimate[0]

    assert estimate(smallest=0) == pytest.approx((2 + 4) / 20)
    assert estimate(smallest=0, is_normalised=False) == pytest.approx((2 + 4) / 20)
    assert estimate(smallest=0.5, is_normalised=False) == pytest.approx((2 + 2) / 20)
    assert estimate(smallest=0.5) == pytest.approx((2 + 2) / (10 + 10 * 0.25 * 2))
    assert estimate(smallest=1) == pytest.approx(3 / (10 + 2.5))
    assert estimate_ipw(cells, curve).examined[0] == 12.5


def test_clipping_biases_plain_weights_low_and_normalised_ones_not():
    rng = np.random.default_rng(1)
    clicks = rng.binomial(200, 0.3 * EXAMINATION, (4000, 5))
    pairs, positions = np.repeat(np.arange(4000), 5), np.tile(np.arange(1, 6), 4000)
    cells = sum_log(build_log(pairs, pairs, positions, clicks.ravel(), np.full(20_000, 200)))
    curve = PositionCurve.from_first(EXAMINATION.tolist())

    def mean(**options):
        return estimate_ipw(cells, curve, **options).estimate.mean()

    assert mean(smallest=0) == pytest.approx(0.3, abs=0.002)
    assert mean(smallest=0.5) == pytest.approx(0.3, abs=0.002)
    expected = 0.3 * np.mean(np.minimum(EXAMINATION / 0.5, 1))
    assert mean(smallest=0.5, is_normalised=False) == pytest.approx(expected, abs=0.002)
    found = estimate_ipw(cells, curve)
    assert 0.95 <= np.mean((found.low <= 0.3) & (found.high >= 0.3)) <= 0.99


def test_propensities_that_give_infinite_weights_are_refused():
    cells, curve = make_cells((1, 1, 2, 1, 10)), PositionCurve.from_first([1, 0])
    with pytest.raises(ValueError, match="examination 0 at position 2 gives clicks infinite weight"):
        estimate_ipw(cells, curve, smallest=0)
    with pytest.raises(ValueError, match=r"smallest examination 1\.5, expected 0"):
        estimate_ipw(cells, curve, smallest=1.5)
    assert np.isnan(estimate_ipw(cells, curve).estimate[0])  # its one click cannot have been examined


def test_the_gamma_interval_is_that_of_fay_and_feuer():
    total, variance, largest = np.array([7.0, 0.0]), np.array([17.0, 0.0]), np.array([4.0, 4.0])
    low, high = bound_sums(total, variance, largest)
    assert low == pytest.approx([17 / 14 * chi2.ppf(0.025, 2 * 49 / 17), 0])
    assert high == pytest.approx([33 / 22 * chi2.ppf(0.975, 2 * 121 / 33), 4 * chi2.ppf(0.975, 2) / 2])


def test_the_objective_never_falls_and_the_fit_converges():
    for seed in range(3):
        fit = fit_pbm(simulate(seed, searches=2000)[0], attractiveness=Prior(0.3, 1))
        steps = np.diff(fit.objective)
        assert len(steps) > 2
        assert (steps >= -1e-9).all()
        assert fit.has_converged
        assert steps[-1] < 1e-4


def test_planted_examinations_and_attractiveness_are_recovered():
    cells, planted = simulate(1)
    fit = fit_pbm(cells)
    truth = planted[fit.relevance.query, fit.relevance.product]
    assert fit.examination.values == pytest.approx(EXAMINATION, abs=0.03)
    assert spearmanr(fit.relevance.estimate, truth).statistic > 0.97
    assert np.mean((fit.relevance.low <= truth) & (truth <= fit.relevance.high)) >= 0.9
    assert ((fit.examination_low <= EXAMINATION) & (fit.examination_high >= EXAMINATION)).all()
    assert fit.warnings == ()


def test_intervals_cover_over_many_logs():
    hits_of_pairs, hits_of_positions = [], []
    for seed in range(30):
        cells, planted = simulate(100 + seed, searches=4000, queries=10)
        fit = fit_pbm(cells)
        truth = planted[fit.relevance.query, fit.relevance.product]
        hits_of_pairs.append((fit.relevance.low <= truth) & (truth <= fit.relevance.high))
        hits_of_positions.append(((fit.examination_low <= EXAMINATION) & (fit.examination_high >= EXAMINATION))[1:])
    assert 0.935 <= np.mean(hits_of_pairs) <= 0.965  # 1,500 intervals
    assert np.mean(hits_of_positions) >= 0.9  # 120 intervals


def test_at_the_first_position_only_the_fit_is_the_beta_posterior():
    fit = fit_pbm(make_cells((1, 1, 1, 3, 10), (1, 2, 1, 0, 5)), attractiveness=Prior(0.25, 4), minimum_impressions=1)
    found, shapes = fit.relevance, [(1 + 3 + 1, 1 + 7 + 3), (1 + 0 + 1, 1 + 5 + 3)]
    assert found.estimate == pytest.approx([4 / 14, 1 / 9])
    assert found.high == pytest.approx([beta.ppf(0.975, *shape) for shape in shapes])
    assert found.low == pytest.approx([beta.ppf(0.025, *shapes[0]), 0])
    assert fit.examination.values.tolist() == [1]
    assert fit.warnings == ()


def measure_posterior(parameters, cells, prior, of_examination):
    """The log posterior of (attractiveness..., examination from the second position...), written out anew."""
    pairs = len(cells.query)
    attractiveness, examination = parameters[:pairs], np.append(1, parameters[pairs:])
    chance = attractiveness[cells.pair] * examination[cells.place]
    total = np.sum(cells.clicks * np.log(chance) + (cells.impressions - cells.clicks) * np.log(1 - chance))
    for values, (mean, strength) in ((attractiveness, prior), (examination[1:], of_examination)):
        total += beta.logpdf(values, 1 + strength * mean, 1 + strength * (1 - mean)).sum()
    return total


def test_the_fit_is_the_maximum_that_a_general_optimiser_finds():
    cells, _ = simulate(5, searches=600, queries=2)
    fit = fit_pbm(cells, attractiveness=Prior(0.3, 2), examination=Prior(0.4, 3), tolerance=1e-10)

    def lose(logits):
        return -measure_posterior(expit(logits), cells, (0.3, 2), (0.4, 3))

    best = expit(minimize(lose, np.zeros(14), options={"gtol": 1e-4}).x)
    assert fit.relevance.estimate == pytest.approx(best[:10], abs=1e-4)
    assert fit.examination.values[1:] == pytest.approx(best[10:], abs=1e-4)


def test_variances_are_those_of_the_inverted_hessian():
    cells, _ = simulate(6, searches=400, queries=2)
    priors = Prior(0.3, 2), Prior(0.4, 3)
    fit = fit_pbm(cells, attractiveness=priors[0], examination=priors[1], tolerance=1e-10)
    at = np.append(fit.relevance.estimate, fit.examination.values[1:])
    steps = np.eye(len(at)) * 1e-4

    def measure(point):
        return measure_posterior(point, cells, (0.3, 2), (0.4, 3))

    hessian = [
        [(measure(at + a + b) - measure(at + a - b) - measure(at - a + b) + measure(at - a - b)) / 4e-8 for a in steps]
        for b in steps
    ]
    expected = np.diag(np.linalg.inv(-np.array(hessian)))
    of_priors = priors[0].measure_curvature(at[:10]), priors[1].measure_curvature(at[10:])
    found = measure_variances(measure_curvature(cells, at[:10], fit.examination.values, of_priors))
    assert np.concatenate(found) == pytest.approx(expected, rel=1e-3)


def test_credible_intervals_are_near_those_of_the_exact_posterior():
    grid = np.linspace(0.0005, 0.9995, 2000)
    shown, clicked, examined = np.array([10, 40, 100]), np.array([3, 5, 4]), np.array([1, 0.5, 0.2])
    log_density = clicked.sum() * np.log(grid) + ((shown - clicked)[:, None] * np.log1p(-examined[:, None] * grid)).sum(
        axis=0
    )
    mode = grid[log_density.argmax()]
    curvature = np.sum(clicked / mode**2 + (shown - clicked) * examined**2 / (1 - examined * mode) ** 2)
    low, high = bound_attractiveness(np.array([mode]), np.array([1 / curvature]), np.array([12.0]))
    cumulative = np.cumsum(np.exp(log_density - log_density.max()))
    exact = np.interp([0.025, 0.975], cumulative / cumulative[-1], grid)
    assert [low[0], high[0]] == pytest.approx(exact, abs=0.01)


def test_positions_that_share_no_product_are_named_as_unknown():
    fit = fit_pbm(simulate(2, is_shuffled=False)[0])
    assert len(fit.warnings) == 1
    assert fit.warnings[0].startswith("positions 2, 3, 4, 5: no clicked product was shown both here and at positions")


def test_positions_may_be_linked_through_others_and_by_clicks_only():
    rows = [(1, 1, 1, 300, 500), (1, 1, 2, 150, 500), (1, 2, 2, 200, 500), (1, 2, 3, 100, 500)]
    assert fit_pbm(make_cells(*rows)).warnings == ()
    [warning] = fit_pbm(make_cells(*rows, (1, 3, 1, 0, 500), (1, 3, 4, 0, 500), (1, 4, 4, 90, 500))).warnings
    assert warning.startswith("position 4: no clicked product")
    # The same product for another query is another pair.
    [warning] = fit_pbm(make_cells(*rows, (2, 2, 4, 90, 500))).warnings
    assert warning.startswith("position 4: no clicked product")


def test_positions_linked_by_few_clicks_are_named_as_unsure():
    fit = fit_pbm(make_cells((1, 1, 1, 300, 500), (1, 1, 2, 150, 500), (1, 1, 3, 1, 10), (1, 2, 3, 90, 500)))
    [warning] = fit.warnings
    assert warning.startswith("position 3: too few clicks on products shown at other positions")


def test_a_fit_that_was_cut_short_says_so():
    fit = fit_pbm(simulate(3, searches=2000)[0], iterations=1)
    assert not fit.has_converged
    assert fit.warnings[-1] == "the fit stopped before it converged: allow more iterations"


def test_a_log_without_clicks_says_only_that_products_attract_little():
    fit = fit_pbm(make_cells((1, 1, 1, 0, 100), (1, 2, 2, 0, 100)))
    assert (fit.relevance.estimate < 0.01).all()
    assert fit.relevance.low.tolist() == [0, 0]
    assert fit.warnings[0].startswith("position 2: no clicked product")


def test_few_impressions_are_pulled_to_the_prior():
    cells = make_cells((1, 1, 1, 1, 1), (1, 2, 1, 500, 1000))
    lone, known = fit_pbm(cells, attractiveness=Prior(0.1, 4), minimum_impressions=1).relevance.estimate
    assert lone == pytest.approx(1.4 / 5)
    assert known == pytest.approx(0.5, abs=0.002)


def test_pairs_hardly_shown_are_left_out_with_the_positions_only_they_had():
    rows = [(1, 1, 1, 6, 15), (1, 1, 3, 4, 15), (2, 1, 2, 1, 3), (2, 2, 3, 5, 25), (2, 3, 3, 5, 19)]
    kept = keep_shown(make_cells(*rows), 20)
    assert list(zip(kept.query, kept.product, strict=True)) == [(1, 1), (2, 2)]
    assert kept.positions.tolist() == [1, 3]
    assert (kept.pair.tolist(), kept.place.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert (kept.impressions.tolist(), kept.clicks.tolist()) == ([15, 15, 25], [6, 4, 5])
    assert fit_pbm(make_cells(*rows)).relevance.product.tolist() == [1, 2]
    with pytest.raises(ValueError, match="no product was shown 31 times for a query, at most 30: wait"):
        fit_pbm(make_cells(*rows), minimum_impressions=31)


def test_many_pairs_hardly_shown_do_not_pull_the_examinations_off():
    rng = np.random.default_rng(8)
    pair = np.concatenate([np.repeat(np.arange(200), 100), 200 + np.repeat(np.arange(8000), 3)])
    position = rng.integers(1, 6, len(pair))
    clicks = rng.random(len(pair)) < 0.2 * EXAMINATION[position - 1]
    cells = sum_log(build_log(pair, pair, position, clicks))
    assert np.abs(fit_pbm(cells).examination.values - EXAMINATION).max() < 0.06
    assert np.abs(fit_pbm(cells, minimum_impressions=1).examination.values - EXAMINATION).max() > 0.1


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": 0.0}, {"tolerance": float("nan")}])
def test_a_fit_without_steps_is_refused(options):
    with pytest.raises(ValueError, match="expected at least 1, and above 0"):
        fit_pbm(make_cells((1, 1, 1, 1, 20)), **options)


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, 1.0), (0.5, 0.0), (float("nan"), 1.0), (0.5, float("inf"))])
def test_a_prior_that_is_none_is_refused(values):
    with pytest.raises(ValueError, match="prior mean"):
        Prior(*values)


def make_relevance(*rows: tuple[int, int, float, float, float]) -> Relevance:
    """Rows are query, product, estimate, clicks, examined."""
    query, product, estimate, clicks, examined = np.array(rows).T
    return Relevance(query.astype(int), product.astype(int), estimate, estimate, estimate, examined, clicks, examined)


def test_grades_are_relative_to_the_best_of_each_query():
    found = grade_by_best(
        make_relevance(
            (1, 1, 0.5, 50, 100),
            (1, 2, 0.4, 40, 100),
            (1, 3, 0.3, 30, 100),
            (1, 4, 0.1, 10, 100),
            (1, 5, 0.05, 5, 100),
            (2, 1, 0.3, 30, 100),
            (2, 2, 0.15, 15, 100),
        )
    )
    assert found.query.tolist() == [1] * 5 + [2] * 2
    assert found.product.tolist() == [1, 2, 3, 4, 5, 1, 2]
    assert found.grade.tolist() == [3, 3, 2, 1, 0, 3, 2]
    assert found.relative == pytest.approx([1, 0.8, 0.6, 0.2, 0.1, 1, 0.5])
    assert found.best == pytest.approx([0.5] * 5 + [0.3] * 2)
    assert found.left_out == 0


def test_the_best_of_a_query_that_shows_no_answer_is_none():
    answered = [(query, 1, 0.4, 40, 100) for query in (1, 2, 3)]
    found = grade_by_best(make_relevance(*answered, (4, 1, 0.08, 8, 100), (4, 2, 0.02, 2, 100)))
    assert found.grade.tolist() == [3, 3, 3, 1, 0]
    assert found.best.tolist() == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.2])
    assert grade_by_best(make_relevance((4, 1, 0.08, 8, 100)), floor=0.0).grade.tolist() == [3]


def test_what_nobody_looked_at_gets_no_grade_rather_than_0():
    found = grade_by_best(make_relevance((1, 1, 0.2, 20, 100), (1, 2, 0.9, 2, 3), (1, 3, 0.0, 0, 19.9)))
    assert found.product.tolist() == [1]
    assert found.grade.tolist() == [3]
    assert found.left_out == 2


def test_queries_without_enough_clicks_are_left_out():
    rows = [(1, 1, 0.02, 2, 100), (1, 2, 0.0, 0, 100), (2, 1, 0.0, 0, 100), (3, 1, 0.5, 9, 3)]
    found = grade_by_best(make_relevance(*rows))
    assert (len(found.grade), found.left_out) == (0, 4)
    assert grade_by_best(make_relevance(*rows), minimum_clicks=2).product.tolist() == [1, 2]
    assert grade_by_best(make_relevance(*rows), minimum_clicks=0).query.tolist() == [1, 1]


def test_unknown_estimates_get_no_grade():
    found = grade_by_best(make_relevance((1, 1, 0.5, 9, 100), (1, 2, np.nan, 0, 100)))
    assert (found.product.tolist(), found.left_out) == ([1], 1)


@pytest.mark.parametrize("cuts", [(), (0.5, 0.5), (0.8, 0.2), (0.0, 0.5), (0.5, 1.2)])
def test_thresholds_out_of_order_are_refused(cuts):
    with pytest.raises(ValueError, match="ascending, above 0 and at most 1"):
        grade_by_best(make_relevance((1, 1, 0.5, 9, 100)), cuts)
