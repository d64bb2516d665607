"""A teacher's scores as log-odds, whatever they were."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.learning.calibration import calibrate, fit_log_odds, measure_span
from retrieval.learning.examples import JudgedPair, LabelledQuery
from tests.fakes import make_document

DOCUMENTS = {number: make_document(number, "right" if number <= 10 else "wrong") for number in range(1, 41)}
QUERIES = [
    LabelledQuery(f"query {number}", {number: 3.0, number + 10: 0.0, number + 20: 0.0}, "test")
    for number in range(1, 11)
]


class Opinion:
    def __init__(self, right: float, wrong: float) -> None:
        self.right, self.wrong = right, wrong

    def score(self, query, documents):
        return np.array([self.right if text.startswith("right") else self.wrong for _, text in documents], np.float32)


@pytest.mark.parametrize(("slope", "offset"), [(4.0, 1.0), (0.5, -2.0), (30.0, 0.0)])
def test_log_odds_are_found_again(slope, offset):
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 2 / slope, 20_000) - offset / slope
    is_right = rng.random(20_000) < 1 / (1 + np.exp(-(slope * scores + offset)))
    found = fit_log_odds(scores, is_right)
    np.testing.assert_allclose(found, (slope, offset), rtol=0.1, atol=0.1)


def test_scores_that_part_all_pairs_stay_finite():
    # 9 right and 9 wrong, targets 10/11 and 1/11: the log-odds are ln 10 on either side.
    slope, offset = fit_log_odds(np.repeat([1.0, 0.0], 9), np.repeat([True, False], 9))
    assert slope + offset == pytest.approx(np.log(10), abs=1e-3)
    assert offset == pytest.approx(-np.log(10), abs=1e-3)


@pytest.mark.parametrize(("right", "wrong"), [(0.1, -0.1), (9.0, 3.0)])
def test_a_teacher_is_put_on_the_scale_of_log_odds(right, wrong):
    teacher = calibrate(Opinion(right, wrong), QUERIES, DOCUMENTS, seed=1)
    assert teacher is not None
    high, low = teacher.score("query 1", [("", "right one"), ("", "wrong one")])
    assert high > 1.5
    assert low < -1.5
    assert high - low > 4


@pytest.mark.parametrize("opinion", [Opinion(1.0, 1.0), Opinion(0.0, 1.0)])
def test_a_teacher_that_knows_nothing_or_the_opposite_is_refused(opinion):
    assert calibrate(opinion, QUERIES, DOCUMENTS, seed=1) is None


def test_without_known_answers_nothing_is_calibrated():
    assert calibrate(Opinion(1.0, 0.0), [LabelledQuery("lamp", {99: 3.0}, "test")], DOCUMENTS, seed=1) is None


def test_products_of_another_shop_are_not_called_wrong():
    sample = {-number: make_document(-number, "right of the sample shop") for number in range(1, 500)}
    asked: list[str] = []

    class Heard(Opinion):
        def score(self, query, documents):
            asked.extend(text for _, text in documents)
            return super().score(query, documents)

    assert calibrate(Heard(1.0, 0.0), QUERIES, DOCUMENTS | sample, seed=1)
    assert not any(text.startswith("right of the sample shop") for text in asked)


PAIRS = [JudgedPair("mug", text, text.startswith("right")) for text in ("right one", "right two", "wrong one")]


@pytest.mark.parametrize(("right", "wrong", "span"), [(0.7, -0.5, 1.2), (11.0, -9.0, 20.0), (0.0, 1.0, 0.0)])
def test_a_reader_s_span_is_how_far_right_lies_above_wrong(right, wrong, span):
    assert measure_span(Opinion(right, wrong), PAIRS) == pytest.approx(span)


@pytest.mark.parametrize("pairs", [[], PAIRS[:2], PAIRS[2:]])
def test_without_right_and_wrong_pairs_no_span_is_known(pairs):
    assert measure_span(Opinion(1.0, 0.0), pairs) == 0.0
