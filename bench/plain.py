"""The plain stack: what one would write without this project, from the usual packages and their examples."""

from __future__ import annotations

import os
import sqlite3
import warnings
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
    """sentence-transformers in PyTorch, QdrantClient(":memory:"), bm25s, and reciprocal rank fusion."""

    def __init__(self, products: list[dict[str, Any]], shop: Shop) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        texts = [f"{product['title']} {product.get('description', '')}" for product in products]
        self._model = SentenceTransformer(str(resolve_model("default")), device="cpu")
        self._retriever = bm25s.BM25()
        self._retriever.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # local mode says that it is meant for small collections
            self._client = QdrantClient(":memory:")
            vectors = load_vectors(shop, len(products))
            params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
            self._client.create_collection("products", vectors_config=params)
            self._client.upload_collection("products", vectors, ids=range(len(vectors)))

    def search(self, query: str, limit: int = 24) -> list[int]:
        """Return the positions of the best products."""
        vector = self._model.encode(query, normalize_embeddings=True, show_progress_bar=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dense = self._client.query_points("products", query=vector, limit=DEPTH, with_payload=False).points
        tokens = bm25s.tokenize(query, show_progress=False)
        words, _ = self._retriever.retrieve(tokens, k=DEPTH, show_progress=False)
        scores: dict[int, float] = {}
        for ranking in ([int(point.id) for point in dense], words[0].tolist()):
            for rank, position in enumerate(ranking, 1):
                scores[position] = scores.get(position, 0.0) + 1 / (RRF_K + rank)
        return sorted(scores, key=lambda position: -scores[position])[:limit]


def load_vectors(shop: Shop, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return `count` vectors the shop has embedded: which product each belongs to does not change the time."""
    with sqlite3.connect(shop.data_dir / "shop.sqlite3") as database:
        rows = database.execute("SELECT vector FROM retrieval_embedding LIMIT ?", (count,)).fetchall()
    return np.array([np.frombuffer(vector, np.float32) for (vector,) in rows])
