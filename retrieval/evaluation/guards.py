"""Queries that guard against forgetting: what a model knew before it learned something else."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from retrieval.engine.text import has_digit, normalize, split_words
from retrieval.engine.types import Document
from retrieval.learning.examples import EXACT, LabelledQuery
from retrieval.learning.negatives import SUBSTITUTE

SOURCE = "guard: sku"
SHORTEST_CODE = 4  # characters
COLD_SHARE = 0.05  # of the categories
MOST_OF_A_CODE = 20  # products: what more of them share names no model


def make_sku_queries(documents: Sequence[Document], n: int, seed: int = 1) -> list[LabelledQuery]:
    """Return up to `n` queries for SKUs and model numbers in titles, the same for the same arguments.

    Every product with that SKU, or with that number in its title, is an exact answer.
    """
    found = find_codes(documents)
    codes = sorted(found)
    chosen = codes if len(codes) <= n else random.Random(f"sku-{seed}").sample(codes, max(n, 0))
    return [LabelledQuery(code, dict.fromkeys(found[code], EXACT), SOURCE) for code in chosen]


def find_codes(documents: Iterable[Document]) -> dict[str, list[int]]:
    """Return the products of every SKU and of every number of a model in a title: letters with digits in one word."""
    found: dict[str, list[int]] = defaultdict(list)
    for document in documents:
        words = {word for word in split_words(normalize(document.title)) if _is_code(word)}
        for code in words | {normalize(document.sku)}:
            found[code].append(document.product_id)
    return {code: product_ids for code, product_ids in found.items() if code and len(product_ids) <= MOST_OF_A_CODE}


def _is_code(word: str) -> bool:
    return len(word) >= SHORTEST_CODE and has_digit(word) and any(letter.isalpha() for letter in word)


def pick_cold_queries(
    queries: Iterable[LabelledQuery], trained: Iterable[LabelledQuery], categories: Mapping[int, str]
) -> list[LabelledQuery]:
    """Return the queries all of whose exact products are in categories that no query of the training asks for.

    `categories` holds each product's category path, '' for none. Queries without a known category are left out.
    """
    warm = {path for query in trained for path in _paths(query, categories)}
    return [query for query in queries if (paths := _paths(query, categories)) and warm.isdisjoint(paths)]


def keep_cold(queries: Iterable[LabelledQuery], categories: Mapping[int, str], seed: int = 1) -> list[LabelledQuery]:
    """Return the queries with no exact product in a category that is kept cold, COLD_SHARE of them by chance.

    A product there becomes a substitute: neither an answer that is learned nor a negative. What asks for cold
    categories alone is left out.
    """
    cold = {path for path in set(categories.values()) if path and _is_cold(path, seed)}
    kept = []
    for query in queries:
        answers = [product_id for product_id in query.positives if categories.get(product_id, "") in cold]
        if len(answers) < len(query.positives):
            kept.append(replace(query, grades={**query.grades, **dict.fromkeys(answers, SUBSTITUTE)}))
    return kept


def _is_cold(path: str, seed: int) -> bool:
    digest = hashlib.blake2b(f"cold-{seed}:{path}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 < COLD_SHARE


def _paths(query: LabelledQuery, categories: Mapping[int, str]) -> set[str]:
    return {path for product_id in query.positives if (path := categories.get(product_id, ""))}
