"""The sample shop in memory, split and embedded, for models to be trained and measured on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import django

SEED = 1


def start_django(folder: Path) -> None:
    """Set up an empty site: the sample shop is made in memory, but by the site's own code."""
    cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
    os.environ |= cleared | {"SEARCHSITE_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "searchsite.settings"}
    django.setup()


@dataclass(frozen=True)
class Lab:
    """The sample shop, its queries split, and its products as the base model sees them."""

    folder: Path
    products: int
    queries: int
    rows: int  # that two towers learn from, in all rounds together
    steps: int  # of a cross-encoder

    @cached_property
    def shop(self) -> Any:
        from retrieval.training_sources import Amounts, gather_sample

        return gather_sample(SEED, Amounts(sample_products=self.products, sample_queries=self.queries))

    @cached_property
    def split(self) -> Any:
        from retrieval.learning.examples import split_queries

        return split_queries(self.shop.queries, self.analyzer, seed=SEED)

    @cached_property
    def asked(self) -> list[Any]:
        held_out: list[Any] = self.split.held_out
        return held_out

    @cached_property
    def analyzer(self) -> Any:
        from retrieval.engine.text import Analyzer

        return Analyzer()

    @cached_property
    def corpus(self) -> Any:
        from retrieval.learning.negatives import build_corpus

        return build_corpus(list(self.shop.documents.values()), self.analyzer)

    @cached_property
    def base(self) -> Any:
        return self.load("default")

    @cached_property
    def texts(self) -> dict[int, str]:
        from retrieval.training_data import training_texts

        return training_texts(self.shop.documents, self.base)

    @cached_property
    def teacher(self) -> Any:
        from retrieval.lessons import load_reranker
        from retrieval.readers import export_reader

        return load_reranker(export_reader("default-reranker", self.folder / "models"))

    def load(self, name: str) -> Any:
        """Return two-tower model `name` as the site runs it."""
        from retrieval.learning.export import export_encoder
        from retrieval.lessons import load_encoder

        return load_encoder(export_encoder(name, self.folder / "models"))

    def search(self, encoder: Any, config: str, texts: list[str], limit: int) -> list[Any]:
        """Return what the encoder's search finds, best first."""
        from retrieval.engine.config import get_config
        from retrieval.learning.memory_search import MemorySearch

        vectors = self.embed(encoder)
        search = MemorySearch(self.corpus.with_vectors(vectors), encoder, get_config(config))
        return search.search(texts, limit)

    def embed(self, encoder: Any) -> Any:
        key = encoder.model_version
        if key not in _VECTORS:
            _VECTORS.clear()
            _VECTORS[key] = encoder.encode_products([self.texts[one] for one in self.corpus.product_ids.tolist()])
        return _VECTORS[key]


_VECTORS: dict[str, Any] = {}  # of the model asked last
