"""Fielded BM25 as sparse vectors: the product side carries term weights, the engine multiplies in the IDF.

BM25F, Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework", section 3.7.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from retrieval.engine.text import Analyzer, field_tokens
from retrieval.engine.types import Document, SparseVector

# A word in the title says more about what a product is than one in its description.
FIELD_WEIGHTS = {
    "title": 3.0,
    "brand": 1.0,
    "category": 2.0,
    "attributes": 0.5,
    "description": 1.0,
    "code": 3.0,
}


@dataclass(frozen=True)
class Bm25:
    """Weighs the terms of products and queries.

    `average_lengths` gives the mean number of tokens of each field, measured on the catalogue.
    """

    analyzer: Analyzer
    average_lengths: Mapping[str, float]
    field_weights: Mapping[str, float] = field(default_factory=lambda: FIELD_WEIGHTS)
    k1: float = 1.2
    b: float = 0.6

    def product_vector(self, document: Document) -> SparseVector:
        """Return tf·(k1+1)/(k1+tf) for every term, tf summed over fields by weight and relative length."""
        return self.weigh(field_tokens(document, self.analyzer))

    def weigh(self, fields: Mapping[str, Sequence[str]]) -> SparseVector:
        """Return the vector of a product with these tokens in its fields."""
        frequencies: dict[str, float] = defaultdict(float)
        for name, tokens in fields.items():
            norm = 1 - self.b + self.b * len(tokens) / max(self.average_lengths.get(name, 0.0), 1.0)
            weight = self.field_weights[name] / norm
            for token, count in Counter(tokens).items():
                frequencies[token] += weight * count
        return to_sparse({token: tf * (self.k1 + 1) / (self.k1 + tf) for token, tf in frequencies.items()})

    def query_vector(self, text: str) -> SparseVector:
        """Return weight 1 for each distinct term of the query."""
        return to_sparse(dict.fromkeys(self.analyzer.tokens(text), 1.0))


def to_sparse(weights: Mapping[str, float]) -> SparseVector:
    """Return the terms as 32-bit ids; terms whose ids collide add up."""
    merged: dict[int, float] = defaultdict(float)
    for term, weight in weights.items():
        merged[term_id(term)] += weight
    return SparseVector(
        np.fromiter(merged.keys(), np.uint32, len(merged)),
        np.fromiter(merged.values(), np.float32, len(merged)),
    )


@lru_cache(maxsize=262_144)
def term_id(term: str) -> int:
    return zlib.crc32(term.encode())
