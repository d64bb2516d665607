"""What is won and lost by searching in the first dimensions of vectors, rescored with all of them?

The default model, all-MiniLM-L6-v2, was not trained for that: another may lose less. Shops are alike but for
SEARCHSITE_VECTOR_DIM and SEARCHSITE_QUANTIZATION.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.learning import copy_shop
from bench.quality import NDCG, Rankings, evaluate_queries
from bench.report import Claim, run, with_ends
from bench.shops import Shop, open_icecat
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.index import GenerationStore, Manifest
from retrieval.engine.types import Vectors
from retrieval.evaluation.compare import estimate_means
from retrieval.evaluation.nearest import EfPoint, measure_graph

CONFIGS = ("dense", "hybrid")
MOST_LOST = ">= -0.005"  # of nDCG@10, in the mean
MOST = 1000  # products a hybrid search asks for
SEARCHES = ((128, 10), (MOST, MOST))  # ef and limit
QUERIES = 300
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Measured:
    """What an index costs in a process of its own, in MiB, and what it finds for each of SEARCHES."""

    opened_mib: float
    searched_mib: float
    points: list[EfPoint]


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    shop = open_icecat()
    shops = {"whole": shop} | {name: build_shop(shop, name, settings) for name, settings in variants(arguments.dim)}
    scores = {name: evaluate_queries(each, *CONFIGS) for name, each in shops.items()}
    vectors = encode_queries(shop)
    for name, each in shops.items():
        for config in CONFIGS:
            yield Claim(f"{name}: {config}, {NDCG}", float(np.mean(scores[name][config][NDCG])))
        if name != "whole":
            yield from show_differences(name, scores[name], scores["whole"])
        yield from show_index(name, find_generation(each), vectors)


def variants(dim: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield names and settings of the shops beside the one searched in whole vectors."""
    short, int8 = {"SEARCHSITE_VECTOR_DIM": str(dim)}, {"SEARCHSITE_QUANTIZATION": "int8"}
    yield f"first {dim}", short
    yield "whole in int8", int8
    yield f"first {dim} in int8", short | int8


def build_shop(shop: Shop, name: str, settings: dict[str, str]) -> Shop:
    copied = replace(copy_shop(shop, f"icecat-{name.replace(' ', '-')}"), settings=settings)
    copied.manage("reindex", "--json")
    return copied


def show_differences(name: str, scores: Rankings, whole: Rankings) -> Iterator[Claim]:
    """Yield the paired difference of each config and the ends of its interval."""
    for config in CONFIGS:
        losses = np.array(scores[config][NDCG]) - whole[config][NDCG]
        (estimate,) = estimate_means(losses[:, None])
        yield from with_ends(f"{name} − whole: {config}, {NDCG}", estimate, MOST_LOST)


def encode_queries(shop: Shop) -> Vectors:
    """Return vectors of rated queries and of words from titles, shape (QUERIES, dim)."""
    version = Manifest.read(find_generation(shop)).model_version
    return TwoTowerEncoder(shop.data_dir / "models" / version).encode_queries(shop.make_queries(QUERIES))


def find_generation(shop: Shop) -> Path:
    """Return the folder of the generation that serves; a shop of the bench has one."""
    store = GenerationStore(shop.data_dir / "generations")
    folder = store.current(store.served()[0])
    assert folder
    return folder


def show_index(name: str, folder: Path, vectors: Vectors) -> Iterator[Claim]:
    yield Claim(f"{name}: vectors and edges searched in", count_searched_bytes(folder) / MIB, "MiB")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        measured = pool.submit(measure_index, folder, vectors).result()
    yield Claim(f"{name}: resident once opened", measured.opened_mib, "MiB")
    yield Claim(f"{name}: resident after {len(vectors)} searches", measured.searched_mib, "MiB")
    for point in measured.points:
        yield Claim(f"{name}: recall@10 of {point.limit} asked for", point.recall)
        yield Claim(f"{name}: {point.limit} asked for, p50", point.p50_ms, "ms")


def count_searched_bytes(folder: Path) -> int:
    """Return the size of the vectors that the graph compares and of its edges: what every search walks through."""
    searched = "short" if Manifest.read(folder).short_dim else "dense"
    files = list(folder.rglob(f"vector_index-{searched}/links*.bin"))
    codes = list(folder.rglob(f"vector_storage-{searched}/quantized.data"))
    return sum(path.stat().st_size for path in files + (codes or list(folder.rglob(f"*-{searched}/matrix.dat"))))


def measure_index(folder: Path, vectors: Vectors) -> Measured:
    """Return what the index costs in this process, which has opened no other.

    Resident are pages of its files, too, which the system may drop: those read when opened, and those that searches
    touched.
    """
    manifest, before = Manifest.read(folder), read_resident_mib()
    index = EdgeIndex.open(folder, manifest.dim, manifest.short_dim)
    opened = read_resident_mib() - before
    for vector in vectors:
        index.search_dense(vector, limit=MOST)
    searched = read_resident_mib() - before
    points, _ = measure_graph(index, vectors, SEARCHES, lambda done: None)
    return Measured(opened, searched, points)


def read_resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    run(__doc__, measure, dim={"type": int, "default": 128, "help": "dimensions searched in (default: 128)"})
