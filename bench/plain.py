"""The plain stack: what one would write without this project, from the usual packages and their examples."""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from collections import Counter
from typing import Any

import bm25s
import numpy as np
from qdrant_client import QdrantClient, models
from sentence_transformers import SentenceTransformer

from bench.shops import Shop
from retrieval.learning.sources import resolve_model

RRF_K = 60
DEPTH = 100


class PlainStack:
    """sentence-transformers in PyTorch, and reciprocal rank fusion of meaning and words.

    Both from QdrantClient(":memory:"), or the words from bm25s, which is faster but knows no filters.
    """

    def __init__(self, products: list[dict[str, Any]], shop: Shop) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        warnings.filterwarnings("ignore", module="qdrant_client")  # local mode says that it is for small collections
        texts = [f"{product['title']} {product.get('description', '')}" for product in products]
        self._model = SentenceTransformer(str(resolve_model("default")), device="cpu")
        self._retriever = bm25s.BM25()
        self._retriever.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        self._vocabulary: dict[str, int] = {}
        self._client = QdrantClient(":memory:")
        vectors = load_vectors(shop, len(products))
        self._client.create_collection(
            "products",
            vectors_config={"dense": models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)},
            sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )
        points = [
            models.PointStruct(id=i, vector={"dense": vectors[i].tolist(), "words": self._count_words(texts[i])})
            for i in range(len(texts))
        ]
        self._client.upload_points("products", points)

    def search(self, query: str, limit: int = 24) -> list[int]:
        """Return the positions of the best products, all found by Qdrant's local mode."""
        prefetch = [
            models.Prefetch(query=self._encode(query), using="dense", limit=DEPTH),
            models.Prefetch(query=self._count_words(query), using="words", limit=DEPTH),
        ]
        fusion = models.FusionQuery(fusion=models.Fusion.RRF)
        found = self._client.query_points("products", prefetch=prefetch, query=fusion, limit=limit)
        return [int(point.id) for point in found.points]

    def search_with_bm25s(self, query: str, limit: int = 24) -> list[int]:
        """Return the positions of the best products, those found by words from bm25s."""
        dense = self._client.query_points("products", query=self._encode(query), using="dense", limit=DEPTH).points
        tokens = bm25s.tokenize(query, show_progress=False)
        words, _ = self._retriever.retrieve(tokens, k=DEPTH, show_progress=False)
        scores: dict[int, float] = {}
        for ranking in ([int(point.id) for point in dense], words[0].tolist()):
            for rank, position in enumerate(ranking, 1):
                scores[position] = scores.get(position, 0.0) + 1 / (RRF_K + rank)
        return sorted(scores, key=lambda position: -scores[position])[:limit]

    def _encode(self, query: str) -> list[float]:
        found: list[float] = self._model.encode(query, normalize_embeddings=True, show_progress_bar=False).tolist()
        return found

    def _count_words(self, text: str) -> models.SparseVector:
        counts = Counter(re.findall(r"\w+", text.lower()))
        ids = [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in counts]
        return models.SparseVector(indices=ids, values=list(map(float, counts.values())))


def load_vectors(shop: Shop, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return `count` vectors the shop has embedded: which product each belongs to does not change the time."""
    with sqlite3.connect(shop.data_dir / "shop.sqlite3") as database:
        rows = database.execute("SELECT vector FROM retrieval_embedding LIMIT ?", (count,)).fetchall()
    vectors = np.array([np.frombuffer(vector, np.float32) for (vector,) in rows])
    return vectors[np.arange(count) % len(vectors)]  # products of the same text share one
