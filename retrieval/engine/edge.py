"""The embedded engine: Qdrant Edge, in this process, on a folder of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qe

from retrieval.engine.index import REINDEX, HnswSettings
from retrieval.engine.points import (
    DENSE,
    HASH,
    OVERSAMPLING,
    SHORT,
    SPARSE,
    check_query,
    checked_batches,
    count_candidates,
    shorten,
    to_ranking,
)
from retrieval.engine.types import EngineError, IndexUnavailable, Point, Ranking, SparseVector, Vectors

SHARD = "shard"
SCROLL_SIZE = 10_000


class EdgeIndex:
    """A ProductIndex over one Edge shard, for one process: opened before a fork, it stays with the parent.

    Edge itself locks nothing: write under GenerationStore.write_lock, and never to a generation that was
    published. It holds the GIL while it works, so `optimize` belongs in another process than the searches.
    With a `short_dim` above 0, each product also has a short vector of that many dimensions to search in.
    """

    def __init__(self, shard: Any, dim: int, short_dim: int = 0) -> None:
        self._opened, self._dim, self._short_dim, self._pid = shard, dim, short_dim, os.getpid()
        self._is_changed = False

    @classmethod
    def create(cls, folder: Path, dim: int, settings: HnswSettings) -> EdgeIndex:
        """Return an empty index in a new folder `folder`/shard; raises EngineError if `settings` do not suit `dim`."""
        short_dim, path = settings.short_dim(dim), folder / SHARD
        path.mkdir(parents=True)
        with _engine_errors():
            return cls(qe.EdgeShard.create(str(path), _edge_config(dim, settings)), dim, short_dim)

    @classmethod
    def open(cls, folder: Path, dim: int, short_dim: int = 0) -> EdgeIndex:
        """Return the index in `folder`; raises IndexUnavailable if there is none that can be opened.

        The folder must be writable: Edge maps its files for writing even when it only reads them.
        """
        if not (folder / SHARD).is_dir():
            raise IndexUnavailable(f"index generation {folder.name} has no {SHARD} folder; {REINDEX}")
        with _engine_errors(f"index generation {folder.name} cannot be opened; {REINDEX}"):
            return cls(qe.EdgeShard.load(str(folder / SHARD)), dim, short_dim)

    @property
    def _shard(self) -> Any:
        """The open shard, if this process is the one that opened it."""
        if self._opened is None:
            raise IndexUnavailable("this index was closed; open it again")
        if self._pid != os.getpid():  # Edge would wait forever for threads that only the parent has
            raise EngineError("this index was opened before a fork; open it in the process that uses it")
        return self._opened

    def search_dense(self, vector: Vectors, *, limit: int, ef: int = 128, is_exact: bool = False) -> Ranking:
        check_query(vector, self._dim)
        query = qe.Query.Nearest(vector.tolist(), using=DENSE)
        if self._short_dim and not is_exact:
            return self._query(query, limit, prefetches=[self._find_candidates(vector, limit, ef)])
        # Without quantised copies in the index, the last of these changes nothing.
        params = qe.SearchParams(
            hnsw_ef=max(ef, limit),
            exact=is_exact,
            quantization=qe.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
        )
        return self._query(query, limit, params=params)

    def _find_candidates(self, vector: Vectors, limit: int, ef: int) -> Any:
        """Return the search in short vectors whose finds are to be rescored with the full ones."""
        candidates = count_candidates(limit, ef)
        # Rescoring int8 with the short vectors themselves would read them for nothing.
        params = qe.SearchParams(hnsw_ef=candidates, quantization=qe.QuantizationSearchParams(rescore=False))
        short = shorten(vector, self._short_dim).tolist()
        return qe.Prefetch(limit=candidates, query=qe.Query.Nearest(short, using=SHORT), params=params)

    def search_sparse(self, vector: SparseVector, *, limit: int) -> Ranking:
        return self._query(qe.Query.Nearest(_to_edge_sparse(vector), using=SPARSE), limit)

    def _query(self, query: Any, limit: int, **options: Any) -> Ranking:
        request = qe.QueryRequest(query=query, limit=max(limit, 0), with_payload=False, with_vector=False, **options)
        with _engine_errors():
            return to_ranking(self._shard.query(request))

    def upsert(self, points: Iterable[Point]) -> None:
        for batch in checked_batches(points, self._dim):
            self._update(qe.UpdateOperation.upsert_points([self._to_edge(point) for point in batch]))

    def _to_edge(self, point: Point) -> Any:
        vectors = {DENSE: point.dense.tolist(), SPARSE: _to_edge_sparse(point.sparse)}
        if self._short_dim:
            vectors[SHORT] = shorten(point.dense, self._short_dim).tolist()
        return qe.Point(point.product_id, vectors, {HASH: point.content_hash})

    def delete(self, product_ids: Sequence[int]) -> None:
        self._update(qe.UpdateOperation.delete_points(list(product_ids)))

    def _update(self, operation: Any) -> None:
        with _engine_errors():
            self._shard.update(operation)
        self._is_changed = True

    def fetch_dense(self, product_ids: Sequence[int]) -> dict[int, Vectors]:
        with _engine_errors():
            records = self._shard.retrieve(list(product_ids), with_payload=False, with_vector=[DENSE])
        return {record.id: np.array(record.vector[DENSE], np.float32) for record in records}

    def content_hashes(self) -> dict[int, str]:
        return {record.id: record.payload[HASH] for record in self._scroll()}

    def _scroll(self) -> Iterator[Any]:
        request: dict[str, Any] = {"limit": SCROLL_SIZE, "with_payload": [HASH], "with_vector": False}
        offset = None
        while True:
            with _engine_errors():
                records, offset = self._shard.scroll(qe.ScrollRequest(offset=offset, **request))
            yield from records
            if offset is None:
                return

    def count(self) -> int:
        with _engine_errors():
            return int(self._shard.count(qe.CountRequest(exact=True)))

    def optimize(self) -> None:
        """Build the HNSW graph and clear away deleted points, where enough has changed to be worth it.

        Edge decides: at 10 MB of vectors outside the graph, or a fifth of the points deleted or replaced.
        """
        with _engine_errors():
            self._shard.optimize()
        self._is_changed = True

    def flush(self) -> None:
        # Whoever only reads may find the folder already removed, and nothing could be written to it.
        if self._is_changed:
            with _engine_errors():
                self._shard.flush()
            self._is_changed = False

    def close(self) -> None:
        if self._opened is not None:
            self.flush()
            with _engine_errors():
                self._shard.close()
            self._opened = None


def _edge_config(dim: int, settings: HnswSettings) -> Any:
    # The pointer is moved only after a flush: a log of single writes would be kept for nothing.
    return qe.EdgeConfig(
        vectors=_dense_vectors(dim, settings),
        sparse_vectors={SPARSE: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
        wal_enabled=False,
    )


def _dense_vectors(dim: int, settings: HnswSettings) -> dict[str, Any]:
    """Return the vectors of the graph, and the full ones that rescore what is found in short ones."""
    int8 = qe.ScalarQuantizationConfig(type=qe.ScalarType.Int8, quantile=0.99, memory=qe.Memory.Pinned)
    is_int8, short_dim = settings.quantization == "int8", settings.short_dim(dim)
    searched = qe.EdgeVectorParams(
        size=short_dim or dim,
        distance=qe.Distance.Dot,
        hnsw_config=_to_edge_graph(settings.m, settings),
        quantization_config=int8 if is_int8 else None,
        memory=qe.Memory.Cold if is_int8 and short_dim else None,
    )
    if not short_dim:
        return {DENSE: searched}
    full = qe.EdgeVectorParams(
        size=dim, distance=qe.Distance.Dot, hnsw_config=_to_edge_graph(0, settings), memory=qe.Memory.Cold
    )
    return {DENSE: full, SHORT: searched}


def _to_edge_graph(m: int, settings: HnswSettings) -> Any:
    """Return the settings of a graph of `m` edges a node; 0 builds none."""
    return qe.HnswIndexConfig(m, settings.ef_construct, full_scan_threshold=10_000)


def _to_edge_sparse(vector: SparseVector) -> Any:
    return qe.SparseVector(vector.indices.tolist(), vector.values.tolist())


@contextmanager
def _engine_errors(what: str = "the embedded index failed") -> Iterator[None]:
    """Edge raises plain Exception for all it cannot do."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise IndexUnavailable(f"{what}: {error}") from error
