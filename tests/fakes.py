"""Small real parts for tests of the engine: no model, no database."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import build_columns
from retrieval.engine.config import SearchConfig
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.generation import Generation
from retrieval.engine.index import HnswSettings
from retrieval.engine.lexicon import build_lexicon
from retrieval.engine.moments import MomentsBuilder
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.text import Analyzer
from retrieval.engine.types import Document, Point, Vectors

DIM = 64


class HashEncoder:
    """Deterministic vectors in which texts that share words, or known synonyms of them, are near."""

    dim = DIM
    model_version = "hash-1"
    max_tokens = 256

    def __init__(self, synonyms: dict[str, str] | None = None) -> None:
        self._synonyms = synonyms or {}

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._encode(text) for text in texts], np.float32).reshape(len(texts), DIM)

    def encode_products(self, texts: Sequence[str], on_progress: Any = None) -> Vectors:
        return self.encode_queries(texts)

    def is_word(self, word: str) -> bool:
        return word in self._synonyms

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def _encode(self, text: str) -> Vectors:
        vector = np.full(DIM, 1e-3, np.float32)
        for word in text.casefold().replace(",", " ").replace(".", " ").split():
            seed = zlib.crc32(self._synonyms.get(word, word).encode())
            vector += np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
        return vector / np.float32(np.linalg.norm(vector))


class DictSource:
    """The catalogue as a dictionary."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = {document.product_id: document for document in documents}

    def find_code(self, code: str) -> list[int]:
        found = self._documents.values()
        return [document.product_id for document in found if code in (document.sku.casefold(), document.gtin)]

    def fetch_documents(self, product_ids: Sequence[int]) -> dict[int, Document]:
        return {product_id: self._documents[product_id] for product_id in product_ids}


def build_pipeline(
    folder: Path, documents: Sequence[Document], config: SearchConfig | None = None, **parts: Any
) -> Pipeline:
    """Return a pipeline over a real Edge index of these documents in `folder`."""
    encoder = parts.pop("encoder", None) or HashEncoder()
    analyzer = Analyzer()
    lexicon = build_lexicon(documents, analyzer)
    bm25 = Bm25(analyzer, lexicon.average_lengths)
    vectors = encoder.encode_products([document.title for document in documents])
    index = EdgeIndex.create(folder, DIM, HnswSettings())
    index.upsert(
        Point(document.product_id, vector, bm25.product_vector(document), document.sku)
        for document, vector in zip(documents, vectors, strict=True)
    )
    moments = MomentsBuilder(DIM)
    moments.add(vectors)
    generation = Generation(folder.name, index, build_columns(documents), lexicon, moments.build(), bm25)
    return Pipeline(generation, encoder, DictSource(documents), config or SearchConfig(), **parts)


def make_document(product_id: int, title: str, **facts: Any) -> Document:
    return replace(Document(product_id, f"SKU-{product_id}", title), **facts)
