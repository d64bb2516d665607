"""How vectors lie, what is near, and what shorter or coarser vectors lose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from retrieval.engine.encoders import scale_to_unit
from retrieval.engine.moments import Moments
from retrieval.engine.types import Ranking, Vectors
from retrieval.evaluation import geometry, nearest
from tests.fakes import HashEncoder, build_pipeline, make_document

AXES = np.eye(4, dtype=np.float32)


def draw(count: int, dim: int, *, shift: float = 0.0, seed: int = 1) -> Vectors:
    """Return unit vectors drawn at random, pushed in the first direction."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    vectors[:, 0] += shift
    return scale_to_unit(vectors)


def test_alignment_is_the_mean_squared_distance_of_pairs():
    # The same vector is 0 away, a right angle 2, the opposite 4.
    assert geometry.measure_alignment(AXES[[0, 0]], AXES[[0, 1]]) == pytest.approx(1.0)
    assert geometry.measure_alignment(AXES[:1], -AXES[:1]) == pytest.approx(4.0)


def test_uniformity_by_hand():
    # All pairs at a right angle: log exp(-2 · 2). Two the same and one across: distances 0, 2, 2.
    assert geometry.measure_uniformity(AXES) == pytest.approx(-4.0)
    assert geometry.measure_uniformity(AXES[[0, 0, 1]]) == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))
    assert geometry.measure_uniformity(AXES[[0, 0]]) == pytest.approx(0.0, abs=1e-6)


def test_figures_do_not_depend_on_how_rows_are_cut(monkeypatch):
    vectors = draw(50, 8)
    vectors[20] = vectors[3]
    whole = geometry.measure_uniformity(vectors)
    monkeypatch.setattr(geometry, "BLOCK", 7)
    assert geometry.measure_uniformity(vectors) == pytest.approx(whole)


def test_anisotropy_by_hand():
    # Half the rows +x, half -x: cosines of pairs are 2 at 1 and 4 at -1 of 6; all variance in one direction.
    found = geometry.measure_anisotropy(np.concatenate([AXES[[0, 0]], -AXES[[0, 0]]]))
    assert found.mean_cosine == pytest.approx(-1 / 3)
    assert found.variance_shares == pytest.approx({1: 1, 2: 1, 5: 1, 10: 1})
    assert found.effective_dims == pytest.approx(1.0)
    even = geometry.measure_anisotropy(np.concatenate([AXES, -AXES]))
    assert [even.variance_shares[1], even.effective_dims] == pytest.approx([0.25, 4.0])


def test_random_pairs_are_never_a_row_with_itself():
    assert geometry.sample_cosines(AXES, 100).tolist() == [0.0] * 100


@pytest.mark.parametrize(
    "measure",
    [geometry.measure_uniformity, geometry.measure_anisotropy, geometry.sample_cosines],
)
def test_one_vector_has_no_spread(measure):
    with pytest.raises(ValueError, match="expected at least 2 rows"):
        measure(AXES[:1])


def test_whitening_makes_a_narrow_cone_round(tmp_path):
    vectors = draw(400, 16, shift=4.0)
    assert geometry.measure_anisotropy(vectors).mean_cosine > 0.4
    whitening = geometry.fit_whitening(vectors)
    white = whitening.apply(vectors)
    assert np.linalg.norm(white, axis=1) == pytest.approx(np.ones(400), abs=1e-5)
    assert abs(geometry.measure_anisotropy(white).mean_cosine) < 0.01
    assert geometry.measure_anisotropy(white).variance_shares[1] < 0.09  # of 16 directions, 0.0625 each
    whitening.save(tmp_path / "white.npz")
    with np.load(tmp_path / "white.npz") as arrays:
        assert arrays["matrix"].shape == (16, 16)
        assert np.cov((vectors - arrays["mean"]) @ arrays["matrix"], rowvar=False, bias=True) == pytest.approx(
            np.eye(16), abs=1e-3
        )


def test_whitening_leaves_out_directions_that_do_not_vary():
    vectors = np.pad(draw(50, 3), ((0, 0), (0, 5)))
    assert geometry.fit_whitening(vectors).apply(vectors).shape == (50, 3)
    assert geometry.fit_whitening(vectors, dims=2).apply(vectors).shape == (50, 2)
    with pytest.raises(ValueError, match="all vectors are the same"):
        geometry.fit_whitening(AXES[[0] * 8])
    with pytest.raises(ValueError, match=r"shape \(7, 4\): expected at least 8 rows"):
        geometry.fit_whitening(AXES[[0] * 7])


class ListedIndex:
    """Searches a few vectors as an index would."""

    def __init__(self, vectors: Vectors, product_ids: list[int]) -> None:
        self._vectors, self._product_ids = vectors, np.array(product_ids)

    def search_dense(self, vector: Vectors, *, limit: int) -> Ranking:
        scores = self._vectors @ vector
        order = np.argsort(-scores, kind="stable")[:limit]
        return Ranking(self._product_ids[order], scores[order])


def find_near_duplicates(**options: Any) -> geometry.Twins:
    vectors, product_ids = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], np.float32), [11, 12, 13, 14]
    index: Any = ListedIndex(vectors, product_ids)
    return geometry.find_near_duplicates(index, vectors, product_ids, threshold=0.7, **options)


def test_near_duplicates_are_named_most_alike_first():
    twins = find_near_duplicates()
    assert [(one, other, round(cosine, 3)) for one, other, cosine in twins.pairs] == [(11, 14, 1.0), (12, 13, 0.8)]
    assert (twins.count, twins.products) == (2, 4)
    capped = find_near_duplicates(limit=1)
    assert (len(capped.pairs), capped.count) == (1, 2)


def test_near_duplicates_of_a_few_are_looked_for_among_all_products(tmp_path):
    documents = [make_document(number, f"mug number {number % 20}") for number in range(1, 41)]
    index = build_pipeline(tmp_path, documents).generation.index
    vectors = HashEncoder().encode_products([document.title for document in documents[:5]])
    twins = geometry.find_near_duplicates(index, vectors, range(1, 6))
    assert twins.products == 5
    assert {pair[:2] for pair in twins.pairs} == {(number, number + 20) for number in range(1, 6)}


def test_recall_counts_equals_as_found():
    exact = np.array([0.9, 0.8, 0.8])
    assert nearest.recall_of(np.array([0.9, 0.8]), exact, top=2) == 1.0
    assert nearest.recall_of(np.array([0.9, 0.7]), exact, top=2) == 0.5
    assert nearest.recall_of(np.array([]), exact, top=2) == 0.0
    assert nearest.recall_of(np.array([]), np.array([]), top=2) == 1.0


def test_shorter_vectors_lose_and_rescoring_brings_back():
    products, queries = draw(500, 32), draw(20, 32, seed=2)
    losses = nearest.measure_sizes(products, queries, sizes=(8, 16, 32, 64))
    assert [loss.dims for loss in losses] == [8, 16, 32]
    assert losses[0].recall < losses[1].recall < losses[2].recall == 1.0
    assert all(loss.recall <= loss.recall_rescored for loss in losses)
    assert losses[1].memory_share == 0.5


def test_a_shorter_vector_loses_more_the_more_products_there_are():
    products, queries = draw(5000, 32), draw(20, 32, seed=2)
    few, many = (nearest.measure_sizes(products[:count], queries, sizes=(8,))[0] for count in (200, 5000))
    assert many.recall_rescored < few.recall_rescored - 0.2


def test_a_size_that_holds_all_there_is_loses_nothing():
    products, queries = np.pad(draw(50, 4), ((0, 0), (0, 4))), np.pad(draw(5, 4, seed=2), ((0, 0), (0, 4)))
    assert nearest.measure_sizes(products, queries, sizes=(4,))[0].recall == 1.0


def test_int8_loses_little_and_nothing_rescored():
    loss = nearest.measure_quantization(draw(500, 64), draw(20, 64, seed=2))
    assert 0.8 < loss.recall < 1.0
    assert loss.recall_rescored > 0.99
    assert 0 < loss.score_error < 0.02


def test_queries_stand_out_when_their_best_product_is_above_chance():
    # Mean 0 and deviation 0.1 in every direction; of 55 products chance lifts the best to 0.1 · sqrt(2 ln 55) = 0.283.
    moments = Moments(np.zeros(4, np.float32), 0.01 * np.eye(4, dtype=np.float32))
    shift = nearest.measure_shift(AXES[:3], np.array([0.6, 0.3, 0.2]), moments, 55, known=AXES[[1]])
    assert [shift.below_chance, shift.far_from_known] == pytest.approx([1 / 3, 2 / 3])
    assert (shift.limit, shift.far_from_products, shift.farthest) == (None, None, ())


def test_queries_are_far_below_nearly_all_that_the_catalogue_asks():
    moments = Moments(np.zeros(4, np.float32), np.eye(4, dtype=np.float32))
    usual = np.linspace(0.4, 0.8, 101)  # 5 % of them lie below 0.42
    shift = nearest.measure_shift(AXES, np.array([0.41, 0.43, 0.2, 0.9]), moments, 55, usual=usual)
    assert shift.limit == pytest.approx(0.42)
    assert (shift.far_from_products, shift.farthest, shift.far_from_known) == (0.5, (2, 0), None)


def test_an_answer_is_found_among_the_nearest():
    products = draw(30, 8)
    queries = products[[0, 1]]
    far = int(np.argmin(products @ queries[1]))
    assert nearest.found_share(queries, products, [[0, 5], [far]]) == 0.5
    assert nearest.found_share(queries[:0], products, []) == 0.0


def test_the_real_index_is_measured_against_exact_search(tmp_path):
    documents = [make_document(number, f"mug number {number}") for number in range(1, 41)]
    pipeline = build_pipeline(tmp_path, documents)
    queries = HashEncoder().encode_queries(["mug 7", "number 12"])
    told: list[int] = []
    points, exact = nearest.measure_graph(pipeline.generation.index, queries, [(8, 10), (128, 1000)], told.append)
    assert [(point.ef, point.limit, point.recall) for point in points] == [(8, 10, 1.0), (128, 1000, 1.0)]
    assert exact.recall == 1.0
    assert 0 < exact.p50_ms <= exact.p95_ms
    assert told == [1, 2, 3]
    with pytest.raises(ValueError, match="no queries to search for"):
        nearest.measure_graph(pipeline.generation.index, queries[:0], [], told.append)
