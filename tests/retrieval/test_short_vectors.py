"""Searching in the first dimensions of vectors: rescored, it finds and scores what full vectors do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from qdrant_client import QdrantClient

from retrieval import indexing, setup
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.index import GenerationStore, HnswSettings, Manifest, ProductIndex
from retrieval.engine.points import count_candidates, shorten
from retrieval.engine.server import ServerIndex, connect
from retrieval.engine.types import EngineError, Point, Query, SparseVector, Vectors
from tests.factories import make_product

pytestmark = pytest.mark.filterwarnings(
    "ignore:Local mode performs exact .brute-force. search, so `search_params` has no effect:UserWarning"
)
DIM, SHORT_DIM, COUNT = 32, 12, 600
MakeIndex = Callable[..., ProductIndex]


@pytest.fixture(params=["edge", "edge-int8", "local", *(["server"] if os.environ.get("QDRANT_URL") else [])])
def make_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeIndex]:
    """Give a function to a new, empty index of DIM dimensions, SHORT_DIM of them searched in by default."""
    kind: str = request.param
    if kind.startswith("edge"):
        quantization = kind.partition("-")[2] or "none"
        yield lambda search_dim=SHORT_DIM: EdgeIndex.create(
            tmp_path / uuid4().hex, DIM, HnswSettings(quantization=quantization, search_dim=search_dim)
        )
        return
    client = QdrantClient(":memory:") if kind == "local" else connect(os.environ["QDRANT_URL"])
    name = f"test-{uuid4().hex}"
    manifest = Manifest("gen-1", "model-1", "recipe-1", DIM, collection=name)
    yield lambda search_dim=SHORT_DIM: ServerIndex.create(
        client, replace(manifest, hnsw=HnswSettings(search_dim=search_dim))
    )
    client.delete_collection(name)
    client.close()


def draw_clusters(count: int = COUNT, dim: int = DIM, seed: int = 0) -> Vectors:
    """Return unit vectors, shape (count, dim), around 20 centres that are the same for every seed."""
    centres = np.random.default_rng(99).normal(size=(20, dim))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 20, count)] + 0.3 * rng.normal(size=(count, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def to_points(vectors: Vectors) -> Iterator[Point]:
    terms = SparseVector(np.array([1], np.uint32), np.ones(1, np.float32))
    return (Point(number, vector, terms, f"hash-{number}") for number, vector in enumerate(vectors, start=1))


def test_ranks_and_scores_are_those_of_full_vectors(make_index: MakeIndex) -> None:
    index, vectors = make_index(), draw_clusters()
    index.upsert(to_points(vectors))
    index.optimize()
    for query in draw_clusters(20, seed=1):
        scores = vectors @ query
        for is_exact in (True, False):
            ranking = index.search_dense(query, limit=10, is_exact=is_exact)
            assert ranking.product_ids.tolist() == (np.argsort(-scores)[:10] + 1).tolist()
            assert ranking.scores.tolist() == pytest.approx(np.sort(scores)[::-1][:10].tolist(), abs=1e-5)


def test_only_exact_search_finds_what_differs_in_the_last_dimensions_alone(make_index: MakeIndex) -> None:
    index = make_index()
    query, far = np.eye(DIM, dtype=np.float32)[[DIM - 1, 0]]
    vectors = np.tile(far, (COUNT, 1))
    vectors[-1] = query  # its short vector is all zeros, like the query's
    index.upsert(to_points(vectors))
    assert index.search_dense(query, limit=1, is_exact=True).product_ids.tolist() == [COUNT]
    assert len(index.search_dense(query, limit=1)) == 1


@pytest.mark.parametrize("limit", [1, 300, COUNT, 5000])
def test_as_many_are_found_as_there_are_up_to_the_limit(make_index: MakeIndex, limit: int) -> None:
    index, vectors = make_index(), draw_clusters()
    index.upsert(to_points(vectors))
    assert len(index.search_dense(vectors[0], limit=limit)) == min(limit, COUNT)


def test_replaced_and_deleted_products_follow_in_both_vectors(make_index: MakeIndex) -> None:
    index, vectors = make_index(), draw_clusters()
    index.upsert(to_points(vectors))
    index.upsert(to_points(-vectors[:1]))
    index.delete([2])
    assert index.search_dense(-vectors[0], limit=1).product_ids.tolist() == [1]
    assert 2 not in index.search_dense(vectors[1], limit=COUNT).product_ids
    assert index.count() == COUNT - 1


def test_fetching_gives_the_full_vectors(make_index: MakeIndex) -> None:
    index, vectors = make_index(), draw_clusters(3)
    index.upsert(to_points(vectors))
    found = index.fetch_dense([1, 3, 77])
    assert sorted(found) == [1, 3]
    assert found[3].tolist() == pytest.approx(vectors[2].tolist(), abs=1e-6)


def test_more_dimensions_than_there_are_are_refused_with_the_cure(make_index: MakeIndex) -> None:
    reason = r"vectors of 32 dimensions cannot be searched in 33 of them; set SEARCHSITE_VECTOR_DIM to at most 32"
    with pytest.raises(EngineError, match=reason):
        make_index(DIM + 1)
    with pytest.raises(EngineError, match="search_dim=-1: expected a number of dimensions"):
        make_index(-1)
    make_index()


def test_all_dimensions_are_searched_in_without_short_vectors(make_index: MakeIndex) -> None:
    assert HnswSettings(search_dim=DIM).short_dim(DIM) == HnswSettings().short_dim(DIM) == 0
    index, vectors = make_index(DIM), draw_clusters(3)
    index.upsert(to_points(vectors))
    assert index.search_dense(vectors[1], limit=1).product_ids.tolist() == [2]


def test_a_copied_generation_keeps_its_short_vectors(tmp_path: Path) -> None:
    store, vectors = GenerationStore(tmp_path), draw_clusters()
    hnsw = HnswSettings(search_dim=SHORT_DIM)
    folder, manifest = store.begin(Manifest("", "model-1", "recipe-1", DIM, hnsw))
    index = EdgeIndex.create(folder, DIM, hnsw)
    index.upsert(to_points(vectors))
    index.close()
    copied, manifest = store.begin(Manifest.read(folder), copy_of=folder)
    assert manifest.short_dim == SHORT_DIM
    copy = EdgeIndex.open(copied, manifest.dim, manifest.short_dim)
    copy.upsert([Point(COUNT + 1, -vectors[0], SparseVector(*np.zeros((2, 0))), "new")])
    copy.delete([1])
    assert copy.search_dense(-vectors[0], limit=1).product_ids.tolist() == [COUNT + 1]
    assert copy.search_dense(vectors[1], limit=1).product_ids.tolist() == [2]
    assert copy.count() == COUNT


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_only_short_vectors_have_a_graph(tmp_path: Path, quantization: str) -> None:
    dim, short_dim, count = 1536, 256, 2000  # 12 MB of full vectors: above what is searched without a graph
    vectors = draw_clusters(count, dim)
    index = EdgeIndex.create(tmp_path, dim, HnswSettings(quantization=quantization, search_dim=short_dim))
    index.upsert(to_points(vectors))
    index.optimize()
    links = {path.parent.name: path.stat().st_size for path in tmp_path.rglob("links*.bin")}
    assert links["vector_index-short"] > 4 * links["vector_index-dense"]  # one offset a product and no edges
    assert {path.parent.name for path in tmp_path.rglob("quantized.data")} == (
        {"vector_storage-short"} if quantization == "int8" else set()
    )
    expected = vectors @ vectors[41]
    ranking = index.search_dense(vectors[41], limit=10)
    assert ranking.product_ids.tolist() == (np.argsort(-expected)[:10] + 1).tolist()
    assert ranking.scores.tolist() == pytest.approx(np.sort(expected)[::-1][:10].tolist(), abs=1e-5)


def test_a_server_keeps_full_vectors_on_disk_without_a_graph() -> None:
    client = QdrantClient(":memory:")
    hnsw = HnswSettings(quantization="int8", search_dim=SHORT_DIM)
    ServerIndex.create(client, Manifest("gen-1", "model-1", "recipe-1", DIM, hnsw, collection="shop-gen-1"))
    vectors = client.get_collection("shop-gen-1").config.params.vectors
    assert isinstance(vectors, dict)
    full, short = vectors["dense"], vectors["short"]
    assert (full.size, full.on_disk, full.quantization_config) == (DIM, True, None)
    assert full.hnsw_config is not None
    assert full.hnsw_config.m == 0
    assert (short.size, short.hnsw_config) == (SHORT_DIM, None)
    assert short.quantization_config is not None
    client.close()


def test_a_short_vector_has_unit_length_and_that_of_nothing_stays_nothing() -> None:
    assert shorten(np.array([0.3, 0.4, 0.5], np.float32), 2).tolist() == pytest.approx([0.6, 0.8])
    assert shorten(np.array([0, 0, 1], np.float32), 2).tolist() == [0, 0]


def test_at_least_twice_the_limit_is_rescored() -> None:
    assert [count_candidates(limit, 128) for limit in (0, 10, 64, 100)] == [128, 128, 128, 200]


def test_a_manifest_from_before_is_searched_in_all_dimensions(tmp_path: Path) -> None:
    Manifest("gen-1", "model-1", "recipe-1", DIM).write(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content["hnsw"]["search_dim"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Manifest.read(tmp_path).short_dim == 0


@pytest.fixture
def mugs(shop):
    return [make_product(f"{colour} ceramic mug") for colour in ("Red", "Blue", "Green", "White", "Black", "Pink")]


def search(text: str) -> list[int]:
    return [hit.product_id for hit in setup.get_pipeline("dense").search(Query(text)).hits]


def test_a_site_searches_in_the_dimensions_it_is_told_once_indexed_anew(mugs, settings):
    indexing.rebuild()
    before = search("pink mug")
    settings.SEARCHSITE = settings.SEARCHSITE | {"VECTOR_DIM": 64}
    assert search("pink mug") == before  # as with all that a graph is made of
    indexing.rebuild()
    folder = setup.find_generation()
    assert folder
    assert Manifest.read(folder).short_dim == 64
    assert list(folder.rglob("vector_storage-short"))
    assert search("pink mug") == before


def test_a_site_refuses_more_dimensions_than_its_model_has(mugs, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"VECTOR_DIM": 100_000}
    with pytest.raises(EngineError, match=r"cannot be searched in 100000 of them; set SEARCHSITE_VECTOR_DIM"):
        indexing.rebuild()
