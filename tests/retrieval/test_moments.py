"""Mean and spread of all product vectors against the same by numpy."""

import numpy as np
import pytest

from retrieval.engine.moments import Moments, MomentsBuilder


def random_vectors(count, dim=8):
    vectors = np.random.default_rng(1).standard_normal((count, dim)).astype(np.float32) + np.float32(0.5)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(*batches: np.ndarray, dim: int = 8) -> Moments:
    builder = MomentsBuilder(dim)
    for batch in batches:
        builder.add(batch)
    return builder.build()


def test_moments_of_two_vectors_worked_by_hand():
    moments = build(np.array([[1, 0], [0, 1]], np.float32), dim=2)
    assert moments.mean.tolist() == [0.5, 0.5]
    assert moments.covariance.tolist() == [[0.25, -0.25], [-0.25, 0.25]]
    # Similarities 1 and 0 to the first axis: mean a half, deviation a half.
    assert moments.of_query(np.array([1, 0], np.float32)) == (0.5, 0.5)


def test_a_query_s_mean_and_deviation_are_those_of_its_similarities():
    products, query = random_vectors(500), random_vectors(1)[0]
    mean, deviation = build(products).of_query(query)
    similarities = products @ query
    assert mean == pytest.approx(similarities.mean(), abs=1e-5)
    assert deviation == pytest.approx(similarities.std(), abs=1e-5)


def test_batches_add_up():
    products = random_vectors(100)
    whole, parts = build(products), build(products[:33], products[33:], products[:0])
    assert np.allclose(whole.mean, parts.mean, atol=1e-7)
    assert np.allclose(whole.covariance, parts.covariance, atol=1e-7)


def test_no_products_or_one_have_no_spread():
    query = random_vectors(1)[0]
    assert build().of_query(query) == (0.0, 0.0)
    one = build(query[None])
    assert one.of_query(query)[0] == pytest.approx(1.0, abs=1e-6)
    assert one.of_query(query)[1] == pytest.approx(0.0, abs=1e-3)


def test_what_is_saved_is_loaded(tmp_path):
    moments = build(random_vectors(20))
    moments.save(tmp_path)
    loaded = Moments.load(tmp_path)
    assert np.array_equal(loaded.mean, moments.mean)
    assert np.array_equal(loaded.covariance, moments.covariance)
    assert loaded.mean.dtype == loaded.covariance.dtype == np.float32
