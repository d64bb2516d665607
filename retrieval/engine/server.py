"""The engine as a service: a Qdrant server, one collection a generation."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from retrieval.engine.index import PREFIX, REINDEX, HnswSettings, Manifest
from retrieval.engine.points import (
    BATCH_SIZE,
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
from retrieval.engine.types import IndexUnavailable, Point, Ranking, SparseVector, Vectors

SCROLL_SIZE = 5000
OPTIMIZE_POLL_S = 0.5


def connect(url: str, api_key: str = "", timeout_s: int = 10) -> QdrantClient:
    """Return a client of the server at `url`; nothing is asked of the server yet."""
    # Otherwise a server that is down would cost a warning here, and the error only later.
    return QdrantClient(url=url, api_key=api_key or None, timeout=timeout_s, check_compatibility=False)


class ServerIndex:
    """A ProductIndex over one collection. Any number of processes may search and write at once.

    With a `short_dim` above 0, each product also has a short vector of that many dimensions to search in.
    """

    def __init__(self, client: QdrantClient, collection: str, dim: int, short_dim: int = 0) -> None:
        self._client, self._collection, self._dim, self._short_dim = client, collection, dim, short_dim

    @classmethod
    def create(cls, client: QdrantClient, manifest: Manifest) -> ServerIndex:
        """Return an empty index in the manifest's new collection, which keeps the manifest too.

        Raises EngineError if the manifest's settings do not suit its dimension.
        """
        vectors = _dense_vectors(manifest.dim, manifest.hnsw)
        with _server_errors():
            client.create_collection(
                manifest.collection,
                vectors_config=vectors,
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                hnsw_config=models.HnswConfigDiff(m=manifest.hnsw.m, ef_construct=manifest.hnsw.ef_construct),
                metadata=asdict(manifest),
            )
        return cls(client, manifest.collection, manifest.dim, manifest.short_dim)

    @classmethod
    def open(cls, client: QdrantClient, manifest: Manifest) -> ServerIndex:
        """Return the index in the manifest's collection; raises IndexUnavailable if it is not there."""
        with _server_errors():
            if not manifest.collection or not client.collection_exists(manifest.collection):
                raise IndexUnavailable(
                    f"the Qdrant server has no collection {manifest.collection!r} of {manifest.name}; {REINDEX}"
                )
        return cls(client, manifest.collection, manifest.dim, manifest.short_dim)

    def search_dense(self, vector: Vectors, *, limit: int, ef: int = 128, is_exact: bool = False) -> Ranking:
        check_query(vector, self._dim)
        if self._short_dim and not is_exact:
            return self._query(vector.tolist(), DENSE, limit, prefetch=self._find_candidates(vector, limit, ef))
        # Without quantised copies in the collection, the last of these changes nothing.
        params = models.SearchParams(
            hnsw_ef=max(ef, limit),
            exact=is_exact,
            quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING),
        )
        return self._query(vector.tolist(), DENSE, limit, search_params=params)

    def _find_candidates(self, vector: Vectors, limit: int, ef: int) -> models.Prefetch:
        """Return the search in short vectors whose finds are to be rescored with the full ones."""
        candidates = count_candidates(limit, ef)
        # Rescoring int8 with the short vectors themselves would read them for nothing.
        params = models.SearchParams(hnsw_ef=candidates, quantization=models.QuantizationSearchParams(rescore=False))
        short = shorten(vector, self._short_dim).tolist()
        return models.Prefetch(query=short, using=SHORT, limit=candidates, params=params)

    def search_sparse(self, vector: SparseVector, *, limit: int) -> Ranking:
        return self._query(_to_server_sparse(vector), SPARSE, limit) if len(vector.indices) else to_ranking([])

    def _query(self, query: Any, using: str, limit: int, **options: Any) -> Ranking:
        if limit < 1:  # the server takes it for an error
            return to_ranking([])
        with _server_errors():
            response = self._client.query_points(
                self._collection,
                query=query,
                using=using,
                limit=limit,
                with_payload=False,
                **options,
            )
        return to_ranking(response.points)

    def upsert(self, points: Iterable[Point]) -> None:
        for batch in checked_batches(points, self._dim):
            with _server_errors():
                self._client.upsert(self._collection, [self._to_server(point) for point in batch], wait=True)

    def _to_server(self, point: Point) -> models.PointStruct:
        vectors: dict[str, Any] = {DENSE: point.dense.tolist(), SPARSE: _to_server_sparse(point.sparse)}
        if self._short_dim:
            vectors[SHORT] = shorten(point.dense, self._short_dim).tolist()
        return models.PointStruct(id=point.product_id, vector=vectors, payload={HASH: point.content_hash})

    def delete(self, product_ids: Sequence[int]) -> None:
        if product_ids:  # the server takes an empty list for an error
            selector = models.PointIdsList(points=list(product_ids))
            with _server_errors():
                self._client.delete(self._collection, selector, wait=True)

    def fetch_dense(self, product_ids: Sequence[int]) -> dict[int, Vectors]:
        found: dict[int, Vectors] = {}
        for start in range(0, len(product_ids), BATCH_SIZE):
            ids = list(product_ids[start : start + BATCH_SIZE])
            with _server_errors():
                records = self._client.retrieve(self._collection, ids, with_payload=False, with_vectors=[DENSE])
            found.update((int(record.id), _dense_of(record)) for record in records)
        return found

    def content_hashes(self) -> dict[int, str]:
        return {int(record.id): record.payload[HASH] for record in self._scroll()}

    def _scroll(self) -> Iterator[Any]:
        offset = None
        while True:
            with _server_errors():
                records, offset = self._client.scroll(
                    self._collection, offset=offset, limit=SCROLL_SIZE, with_payload=[HASH]
                )
            yield from records
            if offset is None:
                return

    def count(self) -> int:
        with _server_errors():
            return self._client.count(self._collection, exact=True).count

    def optimize(self) -> None:
        """Return when the server, which optimises by itself, is not at it; raises if it failed."""
        while (info := self._info()).status == models.CollectionStatus.YELLOW:
            time.sleep(OPTIMIZE_POLL_S)
        if info.status == models.CollectionStatus.RED:
            raise IndexUnavailable(f"the server could not optimise {self._collection}: {info.optimizer_status}")

    def _info(self) -> models.CollectionInfo:
        with _server_errors():
            return self._client.get_collection(self._collection)

    def flush(self) -> None:
        """Nothing is left to do: every write waited until the server's log had it."""

    def close(self) -> None:
        """Nothing is held: the client belongs to whoever made it."""


def drop_collections(client: QdrantClient, prefix: str, keep: Collection[str]) -> list[str]:
    """Remove the generations' collections under this prefix but those in `keep`; return the names removed."""
    with _server_errors():
        names = sorted(each.name for each in client.get_collections().collections)
        removed = [name for name in names if name.startswith(f"{prefix}-{PREFIX}") and name not in keep]
        for name in removed:
            client.delete_collection(name)
    return removed


def _dense_vectors(dim: int, settings: HnswSettings) -> dict[str, models.VectorParams]:
    """Return the vectors of the graph, and the full ones that rescore what is found in short ones."""
    int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    is_int8, short_dim = settings.quantization == "int8", settings.short_dim(dim)
    searched = models.VectorParams(
        size=short_dim or dim,
        distance=models.Distance.DOT,
        quantization_config=models.ScalarQuantization(scalar=int8) if is_int8 else None,
        on_disk=True if is_int8 and short_dim else None,
    )
    if not short_dim:
        return {DENSE: searched}
    no_graph = models.HnswConfigDiff(m=0)
    full = models.VectorParams(size=dim, distance=models.Distance.DOT, on_disk=True, hnsw_config=no_graph)
    return {DENSE: full, SHORT: searched}


def _to_server_sparse(vector: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def _dense_of(record: Any) -> Vectors:
    return np.array(record.vector[DENSE], np.float32)


@contextmanager
def _server_errors() -> Iterator[None]:
    try:
        yield
    except (ApiException, QdrantException) as error:
        raise IndexUnavailable(f"the Qdrant server does not answer as it should: {error}") from error
