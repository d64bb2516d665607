"""A sample of what the live index holds and of what shoppers ask it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from catalog.models import Product
from retrieval.documents import iterate_documents
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.types import Document, Vectors
from retrieval.learning.examples import EXACT
from retrieval.learning.made_queries import make_queries
from retrieval.models import Judgement, ModelVersion, PastQuery
from retrieval.setup import get_encoder

PRODUCTS, QUERIES, KNOWN = 2000, 200, 1000
MOST_VECTORS, FETCHED = 50_000, 1000  # compared with each query, and read at once
LEAST_PAST, LEAST_JUDGED = 20, 50  # queries; where there are fewer, they are made from the catalogue
PAST, MADE = "past queries", "queries made from the catalogue"

SET = "judgements:"  # before a judgement set's name, among a version's sources

Answers = dict[str, list[int]]  # rows of products by query


class Encoder(Protocol):
    """What is asked of the model. A TwoTowerEncoder is one."""

    model_version: str
    max_tokens: int

    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...

    def encode_products(self, texts: Sequence[str]) -> Vectors: ...

    def count_tokens(self, text: str) -> int: ...


@dataclass(frozen=True, eq=False)
class Sample:
    """Products with their vectors from the index, and queries with theirs from the model.

    `usual` are vectors of queries made from the catalogue. `pair_queries` are queries whose answers are known:
    `answers` holds their rows in `products`.
    """

    documents: list[Document]
    products: Vectors
    texts: list[str]
    queries: Vectors
    source: str
    usual: Vectors
    pair_queries: Vectors
    answers: list[list[int]]

    @property
    def product_ids(self) -> list[int]:
        return [document.product_id for document in self.documents]


def draw_sample(pipeline: Pipeline, encoder: Encoder, seed: int = 1) -> Sample:
    """Return at most PRODUCTS products and QUERIES queries, the same for the same seed and shop."""
    documents, products = draw_products(pipeline, seed)
    made, judged = _make_answers(documents, seed), _read_answers(documents)
    usual_texts = list(made) or [document.title for document in documents[:QUERIES]]
    usual = encoder.encode_queries(usual_texts)
    past = list(PastQuery.objects.order_by("-count", "text").values_list("text", flat=True)[:QUERIES])
    is_asked = len(past) >= LEAST_PAST
    return Sample(
        documents,
        products,
        texts=past if is_asked else usual_texts,
        queries=encoder.encode_queries(past) if is_asked else usual,
        source=PAST if is_asked else MADE,
        usual=usual,
        pair_queries=encoder.encode_queries(list(judged)) if judged else usual[: len(made)],
        answers=list((judged or made).values()),
    )


def draw_products(pipeline: Pipeline, seed: int = 1) -> tuple[list[Document], Vectors]:
    """Return products that are both on sale and in the index, with the vectors they have there."""
    generation = pipeline.generation
    product_ids = generation.columns.product_ids.tolist()
    drawn = random.Random(f"sample-{seed}").sample(product_ids, min(PRODUCTS, len(product_ids)))
    vectors = generation.index.fetch_dense(drawn)
    batches = iterate_documents(Product.objects.active().filter(pk__in=drawn))
    documents = [document for batch in batches for document in batch if document.product_id in vectors]
    rows = [vectors[document.product_id] for document in documents]
    return documents, np.array(rows, np.float32).reshape(len(rows), -1)


def draw_vectors(pipeline: Pipeline, seed: int = 1) -> Vectors:
    """Return the vectors of all products in the index, of MOST_VECTORS drawn by chance where it holds more."""
    generation = pipeline.generation
    product_ids = generation.columns.product_ids.tolist()
    drawn = random.Random(f"vectors-{seed}").sample(product_ids, min(MOST_VECTORS, len(product_ids)))
    batches = (drawn[start : start + FETCHED] for start in range(0, len(drawn), FETCHED))
    rows = [vector for batch in batches for vector in generation.index.fetch_dense(batch).values()]
    return np.array(rows, np.float32).reshape(len(rows), -1)


def _make_answers(documents: Sequence[Document], seed: int) -> Answers:
    row_of = {document.product_id: row for row, document in enumerate(documents)}
    made = make_queries(documents, QUERIES, seed)
    return {query.text: [row_of[product_id] for product_id in query.positives] for query in made if query.positives}


def _read_answers(documents: Sequence[Document]) -> Answers:
    """Return judged queries with an exact answer in the sample; none where they are too few to tell."""
    row_of = {document.sku: row for row, document in enumerate(documents)}
    graded = Judgement.objects.filter(grade__gte=EXACT, sku__in=list(row_of)).order_by("query", "sku")
    answers: Answers = {}
    for query, sku in graded.values_list("query", "sku"):
        answers.setdefault(query, []).append(row_of[sku])
    chosen = random.Random("answers").sample(sorted(answers), min(QUERIES, len(answers)))
    return {query: answers[query] for query in chosen} if len(chosen) >= LEAST_JUDGED else {}


def known_queries(model_version: str) -> list[str]:
    """Return queries of the judgement sets this model, or one it stands on, was trained on: at most KNOWN of them.

    None for a model that learned from no judgement set of this shop.
    """
    names = _find_learned_sets(ModelVersion.objects.filter(exported=model_version).first())
    graded = Judgement.objects.filter(judgement_set__name__in=names).order_by("query")
    queries = list(graded.values_list("query", flat=True).distinct())
    return sorted(random.Random("known").sample(queries, min(KNOWN, len(queries))))


def _find_learned_sets(version: ModelVersion | None) -> set[str]:
    names: set[str] = set()
    while version and version.origin == ModelVersion.Origin.TRAINED:
        names |= {name.removeprefix(SET) for name in version.settings.get("sources", {}) if name.startswith(SET)}
        version = version.parent
    return names


def encoder_of(pipeline: Pipeline) -> Encoder:
    """Return the model whose vectors the pipeline searches, also where it is set to search by words alone."""
    encoder = pipeline.encoder
    return encoder if isinstance(encoder, TwoTowerEncoder) else get_encoder(pipeline.config.model)
