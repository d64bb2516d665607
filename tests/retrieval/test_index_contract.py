"""What every ProductIndex keeps: run against Edge, the client's local mode and, where QDRANT_URL is set, a server."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient

from retrieval.engine.edge import EdgeIndex
from retrieval.engine.index import HnswSettings, Manifest, ProductIndex
from retrieval.engine.server import ServerIndex, connect
from retrieval.engine.types import EngineError, IndexUnavailable, Point, SparseVector, Vectors

# Local mode searches exactly and says so when told how broadly to search.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Local mode performs exact .brute-force. search, so `search_params` has no effect:UserWarning"
)
MakeIndex = Callable[[int], ProductIndex]
RED, GREEN, BLUE = 11, 12, 13  # terms


SERVERS = ["server", "server-short"] if os.environ.get("QDRANT_URL") else []
KINDS = ["edge", "edge-int8", "edge-short", "local", "local-short", *SERVERS]


@pytest.fixture(params=KINDS)
def make_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeIndex]:
    """Give a function from a dimension to a new, empty index."""
    kind: str = request.param
    if kind.startswith("edge"):
        yield lambda dim: EdgeIndex.create(tmp_path / uuid4().hex, dim, make_settings(kind, dim))
        return
    client = QdrantClient(":memory:") if kind.startswith("local") else connect(os.environ["QDRANT_URL"])
    names: list[str] = []

    def make(dim: int) -> ProductIndex:
        names.append(f"test-{uuid4().hex}")
        hnsw = make_settings(kind, dim)
        return ServerIndex.create(client, Manifest("gen-1", "model-1", "recipe-1", dim, hnsw, collection=names[-1]))

    yield make
    for name in names:
        client.delete_collection(name)
    client.close()


def make_settings(kind: str, dim: int) -> HnswSettings:
    """Return settings that may search in short vectors, of which the contract knows nothing."""
    is_int8, is_short = kind.endswith("int8"), kind.endswith("short")
    return HnswSettings(quantization="int8" if is_int8 else "none", search_dim=dim - 1 if is_short else 0)


@pytest.fixture
def index(make_index: MakeIndex) -> ProductIndex:
    """Three products in three dimensions: 1 is red and green, 2 is green, 3 is blue twice over."""
    index = make_index(3)
    index.upsert([make_point(1, 0, {RED: 1, GREEN: 1}), make_point(2, 1, {GREEN: 1}), make_point(3, 2, {BLUE: 2})])
    return index


def unit(axis: int, dim: int = 3) -> Vectors:
    vector = np.zeros(dim, np.float32)
    vector[axis] = 1
    return vector


def sparse(terms: dict[int, float]) -> SparseVector:
    return SparseVector(np.array(list(terms), np.uint32), np.array(list(terms.values()), np.float32))


def make_point(product_id: int, axis: int, terms: dict[int, float], content_hash: str = "") -> Point:
    return Point(product_id, unit(axis), sparse(terms), content_hash or f"hash-{product_id}")


def random_points(count: int, dim: int, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(count, dim)).astype(np.float32)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    terms = [dict(zip(rng.choice(40, 6, replace=False).tolist(), rng.random(6).tolist(), strict=True)) for _ in dense]
    return [Point(i + 1, dense[i], sparse(terms[i]), f"hash-{i + 1}") for i in range(count)]


def test_dense_search_scores_by_dot_product_best_first(index: ProductIndex) -> None:
    query = np.array([0.6, 0.8, 0.0], np.float32)
    ranking = index.search_dense(query, limit=2)
    assert ranking.product_ids.tolist() == [2, 1]
    assert ranking.scores.tolist() == pytest.approx([0.8, 0.6], abs=0.01)
    assert ranking.product_ids.dtype == np.int64
    assert ranking.scores.dtype == np.float32


def test_sparse_search_multiplies_in_the_idf_of_each_term(index: ProductIndex) -> None:
    ranking = index.search_sparse(sparse({RED: 1, GREEN: 1}), limit=10)
    red, green = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5)), math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    assert ranking.product_ids.tolist() == [1, 2]
    assert ranking.scores.tolist() == pytest.approx([red + green, green], rel=1e-5)


def test_sparse_search_multiplies_the_weights_of_both_sides(index: ProductIndex) -> None:
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    ranking = index.search_sparse(sparse({BLUE: 3}), limit=10)
    assert ranking.product_ids.tolist() == [3]
    assert ranking.scores.tolist() == pytest.approx([2 * 3 * idf], rel=1e-5)


def test_idf_spans_points_written_before_and_after_optimize(index: ProductIndex) -> None:
    index.optimize()
    index.upsert([make_point(4, 0, {RED: 1})])
    ranking = index.search_sparse(sparse({RED: 1}), limit=10)
    assert ranking.product_ids.tolist() == [1, 4]
    assert ranking.scores.tolist() == pytest.approx([math.log(1 + (4 - 2 + 0.5) / (2 + 0.5))] * 2, rel=1e-5)


@pytest.mark.parametrize("terms", [{}, {99: 1.0}, {2**32 - 1: 1.0}])
def test_terms_no_product_has_find_nothing(index: ProductIndex, terms: dict[int, float]) -> None:
    assert len(index.search_sparse(sparse(terms), limit=10)) == 0


def test_limit_may_exceed_the_count(index: ProductIndex) -> None:
    assert index.search_dense(unit(0), limit=1000).product_ids.tolist() == [1, 2, 3]
    assert len(index.search_sparse(sparse({GREEN: 1}), limit=1000)) == 2


def test_limit_zero_finds_nothing(index: ProductIndex) -> None:
    assert len(index.search_dense(unit(0), limit=0)) == 0
    assert len(index.search_sparse(sparse({GREEN: 1}), limit=0)) == 0


def test_an_empty_index_answers_with_nothing(make_index: MakeIndex) -> None:
    index = make_index(3)
    index.optimize()
    assert len(index.search_dense(unit(0), limit=10)) == 0
    assert len(index.search_sparse(sparse({RED: 1}), limit=10)) == 0
    assert index.count() == 0
    assert index.content_hashes() == {}
    assert index.fetch_dense([1]) == {}


def test_upsert_is_idempotent_and_replaces(index: ProductIndex) -> None:
    for _ in range(2):
        index.upsert([make_point(3, 0, {RED: 1}, "hash-new")])
    assert index.count() == 3
    assert index.content_hashes() == {1: "hash-1", 2: "hash-2", 3: "hash-new"}
    assert len(index.search_sparse(sparse({BLUE: 1}), limit=10)) == 0
    assert index.search_dense(unit(0), limit=2).product_ids.tolist() == [1, 3]


def test_of_one_product_twice_in_a_batch_the_last_stays(make_index: MakeIndex) -> None:
    index = make_index(3)
    index.upsert([make_point(1, 0, {RED: 1}, "old"), make_point(1, 1, {BLUE: 1}, "new")])
    assert index.content_hashes() == {1: "new"}
    assert index.fetch_dense([1])[1].tolist() == pytest.approx([0, 1, 0])


def test_a_product_without_terms_is_found_by_vector_only(make_index: MakeIndex) -> None:
    index = make_index(3)
    index.upsert([make_point(1, 0, {}), make_point(2, 1, {RED: 1})])
    assert index.search_dense(unit(0), limit=1).product_ids.tolist() == [1]
    assert index.search_sparse(sparse({RED: 1}), limit=10).product_ids.tolist() == [2]


def test_deleted_products_are_gone_and_unknown_ones_ignored(index: ProductIndex) -> None:
    index.delete([1, 77])
    index.delete([])
    assert index.count() == 2
    assert index.search_dense(unit(0), limit=10).product_ids.tolist() == [2, 3]
    assert index.search_sparse(sparse({GREEN: 1}), limit=10).product_ids.tolist() == [2]


def test_fetch_dense_returns_only_what_is_there(index: ProductIndex) -> None:
    found = index.fetch_dense([2, 77])
    assert list(found) == [2]
    assert found[2].dtype == np.float32
    assert found[2].tolist() == [0, 1, 0]


def test_equal_scores_come_by_ascending_id(make_index: MakeIndex) -> None:
    index = make_index(3)
    index.upsert(make_point(product_id, 0, {RED: 1}) for product_id in (30, 10, 20))
    assert index.search_dense(unit(0), limit=3).product_ids.tolist() == [10, 20, 30]
    assert index.search_sparse(sparse({RED: 1}), limit=3).product_ids.tolist() == [10, 20, 30]


def test_more_points_than_a_batch_are_all_written(make_index: MakeIndex) -> None:
    index = make_index(8)
    index.upsert(random_points(2500, 8))
    index.optimize()
    assert index.count() == 2500
    assert len(index.content_hashes()) == 2500
    assert len(index.fetch_dense(range(1, 2501))) == 2500


def test_top_ten_of_random_vectors_are_those_of_the_dot_product(make_index: MakeIndex) -> None:
    index, points = make_index(16), random_points(300, 16)
    index.upsert(points)
    index.optimize()
    for query in [point.dense for point in random_points(20, 16, seed=1)]:
        expected = sorted(points, key=lambda point: -float(point.dense @ query))[:10]
        for is_exact in (True, False):
            ranking = index.search_dense(query, limit=10, is_exact=is_exact)
            assert ranking.product_ids.tolist() == [point.product_id for point in expected]
            assert ranking.scores.tolist() == pytest.approx([float(p.dense @ query) for p in expected], abs=1e-5)


def test_top_ten_of_random_terms_are_those_of_the_formula(make_index: MakeIndex) -> None:
    index, points = make_index(16), random_points(300, 16)
    index.upsert(points)
    weights = np.zeros((300, 40))
    for row, point in zip(weights, points, strict=True):
        row[point.sparse.indices] = point.sparse.values
    having = (weights > 0).sum(axis=0)
    idf = np.log(1 + (300 - having + 0.5) / (having + 0.5))
    for query in [point.sparse for point in random_points(20, 16, seed=1)]:
        scores = weights[:, query.indices] @ (query.values * idf[query.indices])
        expected = np.argsort(-scores)[:10]
        ranking = index.search_sparse(query, limit=10)
        assert ranking.product_ids.tolist() == (expected + 1).tolist()
        assert ranking.scores.tolist() == pytest.approx(scores[expected].tolist(), rel=1e-4)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (Point(7, np.array([NAN, 0, 0], np.float32), sparse({}), ""), "not finite"),
        (Point(7, np.array([INF, 0, 0], np.float32), sparse({}), ""), "not finite"),
        (Point(7, np.array([0.5, 0, 0], np.float32), sparse({}), ""), "length 0.5"),
        (Point(7, np.zeros(3, np.float32), sparse({}), ""), "length 0"),
        (Point(7, unit(0, dim=4), sparse({}), ""), r"shape \(4,\), this index holds \(3,\)"),
        (Point(7, unit(0), sparse({RED: NAN}), ""), "term weight is not finite"),
        (Point(7, unit(0), SparseVector(np.array([5, 5], np.uint32), np.ones(2, np.float32)), ""), "term id 5"),
        (Point(7, unit(0), SparseVector(np.array([5], np.uint32), np.ones(2, np.float32)), ""), "1 term ids but 2"),
    ],
)
def test_a_bad_point_is_refused_by_name_with_its_batch(index: ProductIndex, point: Point, reason: str) -> None:
    with pytest.raises(EngineError, match=f"product 7: .*{reason}"):
        index.upsert([make_point(6, 0, {}), point])
    assert index.count() == 3


@pytest.mark.parametrize("product_id", [0, -1, 2**63])
def test_a_product_id_must_be_positive_and_fit(index: ProductIndex, product_id: int) -> None:
    with pytest.raises(EngineError, match=f"product {product_id}: ids of products must be positive"):
        index.upsert([Point(product_id, unit(0), sparse({}), "")])


def test_a_query_of_the_wrong_shape_or_not_finite_is_refused(index: ProductIndex) -> None:
    with pytest.raises(EngineError, match=r"shape \(4,\), this index holds \(3,\)"):
        index.search_dense(unit(0, dim=4), limit=1)
    with pytest.raises(EngineError, match="not finite"):
        index.search_dense(np.array([NAN, 0, 0], np.float32), limit=1)


def test_flush_and_closing_twice_do_no_harm(index: ProductIndex) -> None:
    index.flush()
    index.close()
    index.close()


def test_a_server_that_is_down_makes_the_index_unavailable() -> None:
    client = connect("http://127.0.0.1:1", timeout_s=1)
    with pytest.raises(IndexUnavailable, match="does not answer"):
        ServerIndex(client, "any", 3).search_dense(unit(0), limit=1)
    client.close()
