"""Generations: half an index is never seen, a writer is alone, the way back is open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from retrieval.engine.edge import EdgeIndex
from retrieval.engine.index import GenerationStore, HnswSettings, Manifest
from retrieval.engine.server import ServerIndex, drop_collections
from retrieval.engine.types import EngineError, IndexUnavailable, Point, SparseVector

WANTED = Manifest("", "model-1", "recipe-1", 3)
OTHER = replace(WANTED, model_version="model-2")
DAY_S = 86_400
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> GenerationStore:
    return GenerationStore(tmp_path / "generations")


def make_point(product_id: int) -> Point:
    terms = SparseVector(np.array([1], np.uint32), np.ones(1, np.float32))
    return Point(product_id, np.eye(3, dtype=np.float32)[product_id % 3], terms, f"hash-{product_id}")


def build(store: GenerationStore, product_ids: list[int], manifest: Manifest = WANTED) -> Path:
    folder, started = store.begin(manifest)
    index = EdgeIndex.create(folder, started.dim, started.hnsw)
    index.upsert(make_point(product_id) for product_id in product_ids)
    index.close()
    replace(started, count=len(product_ids), is_complete=True).write(folder)
    return folder


def open_live(store: GenerationStore) -> EdgeIndex:
    folder = store.current("model-1")
    assert folder
    manifest = Manifest.read(folder)
    manifest.check(model_version="model-1", recipe_version="recipe-1", dim=3)
    return EdgeIndex.open(folder, manifest.dim)


def found_by(index: EdgeIndex) -> list[int]:
    return sorted(index.search_dense(np.eye(3, dtype=np.float32)[0], limit=10).product_ids.tolist())


def make_old(folder: Path, age_s: float) -> None:
    os.utime(folder, (time.time() - age_s,) * 2)


def test_without_a_generation_nothing_is_live(store: GenerationStore) -> None:
    assert store.current("model-1") is None
    assert store.folders() == []


def test_the_pointer_moves_to_what_is_published(store: GenerationStore) -> None:
    first, second = build(store, [1]), build(store, [1, 2])
    store.publish(first)
    assert store.current("model-1") == first
    assert found_by(open_live(store)) == [1]
    store.publish(second)
    assert store.current("model-1") == second
    assert found_by(open_live(store)) == [1, 2]
    assert GenerationStore(store.root).current("model-1") == second


def test_an_unfinished_generation_is_never_live(store: GenerationStore) -> None:
    folder, _ = store.begin(WANTED)
    with pytest.raises(IndexUnavailable, match=f"{folder.name} was not finished"):
        store.publish(folder)
    assert store.current("model-1") is None


def test_a_copy_takes_changes_that_its_source_does_not_see(store: GenerationStore) -> None:
    source = build(store, [1, 2])
    (source / "columns.npz").write_bytes(b"others keep files here, too")
    store.publish(source)
    reader = open_live(store)
    folder, manifest = store.begin(Manifest.read(source), copy_of=source)
    assert (folder / "columns.npz").read_bytes() == b"others keep files here, too"
    copy = EdgeIndex.open(folder, manifest.dim)
    copy.upsert([make_point(3)])
    copy.delete([1])
    copy.close()
    with pytest.raises(IndexUnavailable, match="was not finished"):
        store.publish(folder)
    replace(manifest, count=2, is_complete=True).write(folder)
    store.publish(folder)
    assert found_by(open_live(store)) == [2, 3]
    assert found_by(reader) == [1, 2]
    assert found_by(EdgeIndex.open(source, 3)) == [1, 2]


def test_a_copy_leaves_holes_in_files_as_holes(store: GenerationStore) -> None:
    source = build(store, [1])
    with (source / "pages.dat").open("wb") as file:
        file.write(b"head")
        file.seek(1 << 24)
        file.write(b"tail")
    folder, _ = store.begin(WANTED, copy_of=source)
    copied = folder / "pages.dat"
    assert copied.read_bytes() == (source / "pages.dat").read_bytes()
    assert copied.stat().st_blocks == (source / "pages.dat").stat().st_blocks


def test_rollback_returns_to_the_generation_before(store: GenerationStore) -> None:
    first, second = build(store, [1]), build(store, [2])
    store.begin(WANTED)
    store.publish(second)
    assert store.rollback("model-1") == first
    assert store.current("model-1") == first
    with pytest.raises(IndexUnavailable, match=f"no finished index generation is older than {first.name}"):
        store.rollback("model-1")


def test_prune_keeps_the_live_the_newest_and_what_is_recent(store: GenerationStore) -> None:
    first, second, third, fourth = (build(store, [number]) for number in (1, 2, 3, 4))
    unfinished, _ = store.begin(WANTED)
    store.publish(first)
    for folder in (first, second, third, fourth, unfinished):
        make_old(folder, DAY_S / 2)
    assert store.prune(keep=1) == [second.name, third.name]
    assert store.folders() == [first, fourth, unfinished]
    store.publish(fourth)
    assert store.prune(keep=1) == [], "the first was retired only now"
    make_old(unfinished, 2 * DAY_S)
    make_old(first, 2 * DAY_S)
    assert store.prune(keep=1) == [first.name, unfinished.name]


def test_each_model_version_has_a_pointer_of_its_own(store: GenerationStore) -> None:
    assert store.served() == []
    first, other = build(store, [1]), build(store, [1, 2], OTHER)
    store.publish(first)
    store.publish(other)
    assert store.served() == ["model-1", "model-2"]
    assert (store.current("model-1"), store.current("model-2")) == (first, other)
    second = build(store, [3])
    store.publish(second)
    assert (store.current("model-1"), store.current("model-2")) == (second, other)
    assert store.rollback("model-1") == first
    with pytest.raises(IndexUnavailable, match=f"older than {other.name}"):
        store.rollback("model-2")


def test_what_is_withdrawn_serves_no_more_and_goes_after_a_grace(store: GenerationStore) -> None:
    first, other = build(store, [1]), build(store, [1], OTHER)
    for folder in (first, other):
        store.publish(folder)
        make_old(folder, DAY_S)
    store.withdraw("model-2")
    assert (store.current("model-2"), store.served()) == (None, ["model-1"])
    store.withdraw("model-2")
    assert store.prune() == [], "it was withdrawn only now"
    make_old(other, DAY_S)
    assert store.prune() == [other.name]


def test_prune_keeps_the_newest_of_each_version_that_serves(store: GenerationStore) -> None:
    mine = [build(store, [number]) for number in (1, 2, 3)]
    others = [build(store, [number], OTHER) for number in (1, 2, 3)]
    for folder in (mine[-1], others[-1]):
        store.publish(folder)
    for folder in (*mine, *others):
        make_old(folder, DAY_S)
    assert store.prune(keep=2) == [mine[0].name, others[0].name]


def test_an_open_index_outlives_its_folder(store: GenerationStore) -> None:
    store.publish(build(store, [1, 2]))
    reader = open_live(store)
    store.publish(build(store, [3]))
    make_old(store.folders()[0], DAY_S)
    store.prune(keep=1)
    assert len(store.folders()) == 1
    assert found_by(reader) == [1, 2]
    assert reader.content_hashes() == {1: "hash-1", 2: "hash-2"}
    assert sorted(reader.fetch_dense([1, 2])) == [1, 2]
    reader.close()


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (replace(WANTED, model_version="model-0"), "model version 'model-0', this site uses 'model-1'"),
        (replace(WANTED, recipe_version="recipe-0"), "recipe version 'recipe-0', this site uses 'recipe-1'"),
        (replace(WANTED, dim=4), "dimension 4, this site uses 3"),
        (replace(WANTED, format_version=9), "format version 9, this site uses 1"),
    ],
)
def test_a_foreign_generation_is_refused_with_both_values_and_the_cure(
    store: GenerationStore, built: Manifest, message: str
) -> None:
    folder, started = store.begin(WANTED)
    replace(started, is_complete=True).write(folder)
    store.publish(folder)
    replace(built, name=folder.name, is_complete=True).write(folder)
    with pytest.raises(IndexUnavailable, match=rf"{folder.name} was built with .*{message}; run: manage\.py reindex"):
        open_live(store)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format_version": 1}', "\0"])
def test_a_damaged_manifest_is_refused(store: GenerationStore, content: str | None) -> None:
    folder = build(store, [1])
    store.publish(folder)
    (folder / "manifest.json").unlink() if content is None else (folder / "manifest.json").write_text(content)
    with pytest.raises(IndexUnavailable, match=r"manifest.*run: manage\.py reindex"):
        open_live(store)


def test_a_damaged_index_is_refused(store: GenerationStore) -> None:
    folder = build(store, [1])
    store.publish(folder)
    for path in folder.rglob("segment.json"):
        path.unlink()
    with pytest.raises(IndexUnavailable, match=r"cannot be opened; run: manage\.py reindex"):
        open_live(store)


def test_a_second_writer_is_refused_by_name(store: GenerationStore) -> None:
    with (
        store.write_lock(),
        pytest.raises(IndexUnavailable, match=f"process {os.getpid()} is writing the index"),
        GenerationStore(store.root).write_lock(is_waiting=False),
    ):
        pytest.fail("two writers at once")
    with store.write_lock(is_waiting=False):
        pass


BUILDER = """
import sys, time
from pathlib import Path
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.index import GenerationStore
from tests.retrieval.test_generations import WANTED, make_point

store = GenerationStore(Path(sys.argv[1]))
with store.write_lock():
    folder, manifest = store.begin(WANTED)
    index = EdgeIndex.create(folder, manifest.dim, manifest.hnsw)
    index.upsert([make_point(9)])
    print("half built", flush=True)
    time.sleep(60)
"""


def test_a_killed_builder_leaves_the_live_generation_and_the_lock_free(store: GenerationStore) -> None:
    live = build(store, [1, 2])
    store.publish(live)
    command = [sys.executable, "-c", BUILDER, str(store.root)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout
        assert builder.stdout.readline() == "half built\n"
        with (
            pytest.raises(IndexUnavailable, match=f"process {builder.pid} is writing"),
            store.write_lock(is_waiting=False),
        ):
            pass
        builder.send_signal(signal.SIGKILL)
    assert store.current("model-1") == live
    assert found_by(open_live(store)) == [1, 2]
    with store.write_lock(is_waiting=False):
        store.publish(build(store, [3]))
    assert found_by(open_live(store)) == [3]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_an_index_opened_before_a_fork_is_refused_in_the_child(store: GenerationStore) -> None:
    store.publish(build(store, [1]))
    reader = open_live(store)
    child = os.fork()
    if child == 0:
        os._exit(0 if is_refused_after_fork(reader) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.count() == 1


def is_refused_after_fork(reader: EdgeIndex) -> bool:
    try:
        reader.count()
    except EngineError as error:
        return "opened before a fork" in str(error)
    return False


def test_a_closed_index_says_so(store: GenerationStore) -> None:
    store.publish(build(store, [1]))
    reader = open_live(store)
    reader.close()
    with pytest.raises(IndexUnavailable, match="was closed"):
        reader.count()


def test_settings_of_the_graph_name_their_choices() -> None:
    with pytest.raises(EngineError, match="unknown quantization 'int4', expected one of: none, int8"):
        HnswSettings(quantization="int4")
    with pytest.raises(EngineError, match=r"m=2, ef_construct=100: expected 4 to 128"):
        HnswSettings(m=2)


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_a_graph_finds_the_nearest_and_scores_with_full_vectors(tmp_path: Path, quantization: str) -> None:
    dim, count = 1536, 2000  # 12 MB of vectors: above what is searched without a graph
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    terms = make_point(1).sparse
    index = EdgeIndex.create(tmp_path, dim, HnswSettings(quantization=quantization))
    index.upsert(Point(number, vector, terms, "") for number, vector in enumerate(vectors, start=1))
    index.optimize()
    assert list(tmp_path.rglob("graph.bin"))
    assert bool(list(tmp_path.rglob("quantized*"))) == (quantization == "int8")
    ranking = index.search_dense(vectors[41], limit=10, ef=count)
    expected = vectors @ vectors[41]
    assert ranking.product_ids.tolist() == (np.argsort(-expected)[:10] + 1).tolist()
    assert ranking.scores.tolist() == pytest.approx(np.sort(expected)[::-1][:10].tolist(), abs=1e-5)


def test_a_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    manifest = replace(WANTED, name="gen-1", count=7, is_complete=True, hnsw=HnswSettings(32, 200, "int8"))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["hnsw"]["quantization"] == "int8"


def test_old_collections_are_dropped_those_of_other_shops_stay() -> None:
    client = QdrantClient(":memory:")
    names = ["shop-gen-1", "shop-gen-2", "shop-gen-3", "other-gen-1", "shopkeeper"]
    for name in names:
        ServerIndex.create(client, replace(WANTED, collection=name))
    assert drop_collections(client, "shop", keep={"shop-gen-2"}) == ["shop-gen-1", "shop-gen-3"]
    assert sorted(each.name for each in client.get_collections().collections) == sorted({*names} - {names[0], names[2]})


def test_a_collection_that_is_gone_is_named() -> None:
    with pytest.raises(IndexUnavailable, match="no collection 'shop-gen-9'"):
        ServerIndex.open(QdrantClient(":memory:"), replace(WANTED, collection="shop-gen-9"))
