"""What a half-typed query may become: products, categories, and what others searched for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalog.models import Category, Product
from retrieval.engine.bm25 import to_sparse
from retrieval.engine.generation import Generation
from retrieval.engine.text import expand_word, normalize, split_words
from retrieval.engine.types import EngineError, Ids, Ranking
from retrieval.models import PastQuery
from retrieval.setup import get_pipeline

MAX_TYPED_LENGTH = 100
DEPTH = 200


@dataclass(frozen=True, slots=True)
class ProductSuggestion:
    product_id: int
    title: str
    image_url: str
    price_cents: int | None
    currency: str


@dataclass(frozen=True, slots=True)
class CategorySuggestion:
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Suggestions:
    products: tuple[ProductSuggestion, ...] = ()
    categories: tuple[CategorySuggestion, ...] = ()
    queries: tuple[str, ...] = ()


def suggest(text: str, limit: int = 8) -> Suggestions:
    """Return at most `limit` products, and a few categories and past queries, for a query being typed.

    Without an index there are still categories and past queries.
    """
    prefix = normalize(text[:MAX_TYPED_LENGTH])
    if not split_words(prefix):
        return Suggestions()
    return Suggestions(
        products=_suggest_products(prefix, limit),
        categories=_suggest_categories(prefix, limit=3),
        queries=tuple(PastQuery.objects.starting_with(prefix, limit=5)),
    )


def _suggest_products(prefix: str, limit: int) -> tuple[ProductSuggestion, ...]:
    try:
        ids = _find_products(prefix, get_pipeline("lexical").generation, limit)
    except EngineError:
        return ()
    rows = (
        Product.objects.active().filter(pk__in=ids).values_list("pk", "title", "image_url", "price_cents", "currency")
    )
    found = {row[0]: ProductSuggestion(*row) for row in rows}
    return tuple(found[product_id] for product_id in ids if product_id in found)


def _find_products(prefix: str, generation: Generation, limit: int) -> list[int]:
    """Return the products with all whole words of `prefix` and a word that its last may become, best first."""
    *whole, last = split_words(prefix)
    typed = {token: 1.0 for word in whole for token in generation.bm25.analyzer.tokens(word)}
    having_all = _most_covering(generation.index.search_sparse(to_sparse(typed), limit=DEPTH)) if typed else None
    ranking = generation.index.search_sparse(to_sparse(typed | _complete(last, generation)), limit=DEPTH)
    ids = _most_covering(ranking)
    if having_all is not None and np.isin(ids, having_all).any():
        ids = ids[np.isin(ids, having_all)]
    return [int(product_id) for product_id in ids[:limit]]


def _most_covering(ranking: Ranking) -> Ids:
    """Return the products whose score is near the best: those that have all the words, not just one of them."""
    is_near = ranking.scores >= 0.6 * ranking.scores.max(initial=0.0)
    return np.asarray(ranking.product_ids[is_near])


def _complete(last: str, generation: Generation) -> dict[str, float]:
    """Return the stems of the catalogue's words that the half-typed one may become, the frequent ones heavier."""
    completions = generation.lexicon.complete_word(last) or [last]
    best = generation.lexicon.words.get(completions[0], 1)
    weights: dict[str, float] = {}
    for word in completions:
        share = generation.lexicon.words.get(word, 1) / best
        for token in expand_word(word):
            stem = generation.bm25.analyzer.stem(token)
            weights[stem] = max(weights.get(stem, 0.0), 0.5 + 0.5 * share)
    return weights


def _suggest_categories(prefix: str, limit: int) -> tuple[CategorySuggestion, ...]:
    categories = Category.objects.filter(name__istartswith=prefix) | Category.objects.filter(
        name__icontains=f" {prefix}"
    )
    rows = categories.order_by("path").values_list("name", "path")[:limit]
    return tuple(CategorySuggestion(name, path) for name, path in rows)
