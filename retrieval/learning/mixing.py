"""Queries of several sources made one set to learn from: each source with its share, refused where unfit."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from retrieval.engine.text import normalize
from retrieval.engine.types import EngineError
from retrieval.learning.examples import EXACT, LabelledQuery

LEAST_USABLE = 8
MOST_CONTRADICTIONS = 0.03  # of the graded pairs
SHOWN = 3


class TrainingDataError(EngineError):
    """What cannot be learned from; the message names the cause and the cure."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Sources in which no query comes twice. `shared` queries came more than once, `contradicted` are their grades
    that differed.
    """

    sources: Mapping[str, list[LabelledQuery]]
    shared: int
    contradicted: int


def mix(sources: Mapping[str, Sequence[LabelledQuery]], weights: Mapping[str, float]) -> list[LabelledQuery]:
    """Return the queries of all sources, each once, so weighted that each source has its share of what is drawn.

    The share is that of the source's weight, whatever its size; a query of one source keeps its weight beside others
    of it. The mean weight is 1. Raises TrainingDataError for a weight that is none.
    """
    return weigh(merge(sources, weights).sources, weights)


def weigh(sources: Mapping[str, Sequence[LabelledQuery]], weights: Mapping[str, float]) -> list[LabelledQuery]:
    """Return the queries of all sources with the weights that `mix` gives them."""
    check_weights(weights)
    filled = {name: queries for name, queries in sources.items() if queries}
    total, count = sum(weights[name] for name in filled), sum(map(len, filled.values()))
    mixed: list[LabelledQuery] = []
    for name, queries in filled.items():
        factor = count * weights[name] / total / sum(query.weight for query in queries)
        mixed += [replace(query, weight=query.weight * factor) for query in queries]
    return mixed


def merge(sources: Mapping[str, Sequence[LabelledQuery]], weights: Mapping[str, float]) -> Merged:
    """Return the sources with each query once, where its weight is highest, with the grades of all.

    Where grades contradict, those of the source with the higher weight count, among equals of the first.
    """
    ranked = sorted(sources, key=lambda name: -weights[name])
    found: dict[str, tuple[str, LabelledQuery]] = {}
    again: set[str] = set()
    contradicted = 0
    for name in ranked:
        for query in sources[name]:
            key = normalize(query.text)
            if key not in found:
                found[key] = (name, query)
                continue
            again.add(key)
            owner, kept = found[key]
            contradicted += sum(
                kept.grades.get(product_id, grade) != grade for product_id, grade in query.grades.items()
            )
            is_complete = kept.is_complete and query.is_complete  # what one source says of all its products
            found[key] = (owner, replace(kept, grades={**query.grades, **kept.grades}, is_complete=is_complete))
    merged: dict[str, list[LabelledQuery]] = {name: [] for name in sources}
    for name, query in found.values():
        merged[name].append(query)
    return Merged(merged, len(again), contradicted)


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise TrainingDataError for a weight that no share can be made of."""
    for name, weight in weights.items():
        if not (isfinite(weight) and weight > 0):
            raise TrainingDataError(f"weight {weight} of {name!r}: expected a number above 0, or leave the source out")


def check(
    queries: Sequence[LabelledQuery], documents: Container[int] | None = None, *, least: int = LEAST_USABLE
) -> None:
    """Raise TrainingDataError unless there is enough to learn from, and what there is agrees with itself.

    `documents`: the products that are known, where that is to be checked.
    """
    if not queries:
        raise TrainingDataError("there is no query to learn from: import ratings, or learn from the catalogue")
    _check_products(queries, documents)
    grades = {grade for query in queries for grade in query.grades.values()}
    if len(grades) == 1:
        raise TrainingDataError(
            f"every product is graded {grades.pop():g}, which tells no right from wrong: grade wrong products too, "
            "or add the catalogue as a source"
        )
    check_agreement(queries)
    usable = sum(1 for query in queries if query.positives and query.negatives)
    if usable < least:
        raise TrainingDataError(
            f"{usable} of {len(queries)} queries have both a product that answers them (graded {EXACT:g}) and one that "
            f"does not; at least {least} are needed: add ratings, or learn from the catalogue"
        )


def _check_products(queries: Sequence[LabelledQuery], documents: Container[int] | None) -> None:
    if documents is None:
        return
    unknown = {product_id for query in queries for product_id in query.grades if product_id not in documents}
    if unknown:
        shown = ", ".join(map(str, sorted(unknown)[:SHOWN]))
        raise TrainingDataError(
            f"{len(unknown)} graded products are not in the catalogue, such as {shown}: import it, or leave their "
            "ratings out"
        )


def check_agreement(queries: Iterable[LabelledQuery], source: str = "these queries") -> None:
    """Raise TrainingDataError where more than a few pairs of query and product are graded both exact and wrong."""
    grades: dict[tuple[str, int], list[float]] = defaultdict(list)
    for query in queries:
        for product_id, grade in query.grades.items():
            grades[normalize(query.text), product_id].append(grade)
    against = [pair for pair, given in grades.items() if max(given) >= EXACT and min(given) <= 0]
    if len(against) > MOST_CONTRADICTIONS * len(grades):
        shown = ", ".join(f"{text!r} and product {product_id}" for text, product_id in against[:SHOWN])
        raise TrainingDataError(
            f"{len(against)} of {len(grades)} pairs in {source} are graded both {EXACT:g} and 0, such as {shown}: "
            "keep one grade of each"
        )


def hash_of(queries: Iterable[LabelledQuery]) -> str:
    """Return 16 hexadecimal digits that change with any query, grade or weight, not with their order."""
    lines = sorted(
        f"{normalize(query.text)}\t{query.weight:.6g}\t"
        + " ".join(f"{product_id}:{grade:g}" for product_id, grade in sorted(query.grades.items()))
        for query in queries
    )
    return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
