"""What a pipeline is made of, as far as it needs to know it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from retrieval.engine.types import Document, Scores, Vectors


class QueryEncoder(Protocol):
    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...

    def is_word(self, word: str) -> bool:
        """Return whether the model's vocabulary holds the whole word: it knows what it means."""
        ...


class Reranker(Protocol):
    @property
    def span(self) -> float:
        """How far apart its scores of right and wrong products usually are, 0 where that is not known."""
        ...

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores: ...


class ProductSource(Protocol):
    """What the pipeline asks of the catalogue itself."""

    def find_code(self, code: str) -> list[int]:
        """Return the active products whose SKU or GTIN is `code`, whatever its case."""
        ...

    def fetch_documents(self, product_ids: Sequence[int]) -> dict[int, Document]:
        """Return those of the products that are there, by id."""
        ...


class Stopwatch:
    """Adds up the milliseconds of named stages."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + (perf_counter() - start) * 1000
