"""What goes into an index and what comes out: points checked before they are written, rankings read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np

from retrieval.engine.types import EngineError, Point, Ranking, SparseVector, Vectors

DENSE, SHORT, SPARSE, HASH = "dense", "short", "bm25", "content_hash"
BATCH_SIZE = 1000
OVERSAMPLING = 2.0  # candidates found in int8 or short vectors per hit wanted, then rescored with the full vectors


def checked_batches(points: Iterable[Point], dim: int) -> Iterator[list[Point]]:
    """Yield points in lists of at most BATCH_SIZE; raises EngineError when one is not sound."""
    iterator = iter(points)
    while batch := list(islice(iterator, BATCH_SIZE)):
        for point in batch:
            check_point(point, dim)
        yield batch


def check_point(point: Point, dim: int) -> None:
    """Raise EngineError unless the point's vectors are what an index may hold."""
    name = f"product {point.product_id}"
    if not 0 < point.product_id < 2**63:
        raise EngineError(f"{name}: ids of products must be positive and fit 64 bits")
    if point.dense.shape != (dim,):
        raise EngineError(f"{name}: its vector has shape {point.dense.shape}, this index holds ({dim},)")
    length = float(np.linalg.norm(point.dense))
    if not np.isfinite(length):
        raise EngineError(f"{name}: its vector is not finite")
    if abs(length - 1) > 0.01:
        raise EngineError(f"{name}: its vector has length {length:.3g}, expected unit length")
    _check_sparse(name, point.sparse)


def _check_sparse(name: str, sparse: SparseVector) -> None:
    indices = sparse.indices
    if indices.shape != sparse.values.shape:
        raise EngineError(f"{name}: {len(indices)} term ids but {len(sparse.values)} term weights")
    if not np.isfinite(sparse.values).all():
        raise EngineError(f"{name}: a term weight is not finite")
    ordered = np.sort(indices)
    if (repeated := ordered[1:][ordered[1:] == ordered[:-1]]).size:
        raise EngineError(f"{name}: term id {repeated[0]} stands twice in its sparse vector")


def check_query(vector: Vectors, dim: int) -> None:
    """Raise EngineError unless `vector` is finite and has shape (dim,)."""
    if vector.shape != (dim,):
        raise EngineError(f"the query's vector has shape {vector.shape}, this index holds ({dim},)")
    if not np.isfinite(vector).all():
        raise EngineError("the query's vector is not finite")


def shorten(vector: Vectors, dim: int) -> Vectors:
    """Return the first `dim` numbers of a vector at unit length; all zeros stay so. Kusupati et al. 2022."""
    short = vector[:dim]
    return np.asarray(short / max(float(np.linalg.norm(short)), 1e-12), np.float32)


def count_candidates(limit: int, ef: int) -> int:
    """Return how many products to find by short vectors, to be rescored: all that the graph looks at, or more."""
    return max(ef, math.ceil(OVERSAMPLING * limit))


_get_id, _get_score = attrgetter("id"), attrgetter("score")


def to_ranking(points: Sequence[Any]) -> Ranking:
    """Return scored points, best first, as arrays; points of equal score by ascending id."""
    ids = np.fromiter(map(_get_id, points), np.int64, len(points))
    scores = np.fromiter(map(_get_score, points), np.float32, len(points))
    order = np.lexsort((ids, -scores))
    return Ranking(ids[order], scores[order])
