"""What models learn from: queries with graded products, split so that nothing learned from is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz import fuzz, process

from retrieval.engine.text import Analyzer, normalize

EXACT = 3.0  # grade from which a product is what was asked for
ALIKE = 90.0  # of 100: queries whose words are so much the same count as one


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and the grades of products by id: 3 exact, 2 good substitute, 1 related, 0 wrong.

    `weight` is how often it is drawn compared with others. What has no grade is not known; it is learned from as wrong,
    but for `unsure` products.
    """

    text: str
    grades: Mapping[int, float]
    source: str
    weight: float = 1.0
    is_complete: bool = False  # every product without a grade is wrong
    unsure: frozenset[int] = frozenset()

    @property
    def positives(self) -> list[int]:
        """The products of the highest grade, where that is at least EXACT."""
        best = max(self.grades.values(), default=0.0)
        return [product_id for product_id, grade in self.grades.items() if grade == best and best >= EXACT]

    @property
    def negatives(self) -> list[int]:
        """Products known not to be what was asked for."""
        return [product_id for product_id, grade in self.grades.items() if grade < EXACT]


@dataclass(frozen=True, slots=True)
class Split:
    train: list[LabelledQuery]
    held_out: list[LabelledQuery]
    left_out: list[LabelledQuery] = field(default_factory=list)  # too like a held-out query to learn from


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A query with the whole text of a product that answers it, or does not."""

    query: str
    text: str
    is_right: bool


def split_queries(
    queries: Iterable[LabelledQuery], analyzer: Analyzer, *, held_out: float = 0.2, seed: int = 1
) -> Split:
    """Split by normalised query, `held_out` of them apart; what is nearly a held-out query is left out of both.

    The same query falls on the same side in every run with this seed, whatever the others are.
    Raises ValueError unless 0 <= held_out < 1.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out}: expected a share from 0 to below 1")
    sides: tuple[list[LabelledQuery], list[LabelledQuery]] = ([], [])
    for query in queries:
        digest = hashlib.blake2b(f"{seed}:{query_key(query.text, analyzer)}".encode(), digest_size=8).digest()
        sides[int.from_bytes(digest) / 2**64 < held_out].append(query)
    train, apart = sides
    crosses = find_alike([query.text for query in train], [query.text for query in apart])
    return Split(
        [query for query, is_alike in zip(train, crosses, strict=True) if not is_alike],
        apart,
        [query for query, is_alike in zip(train, crosses, strict=True) if is_alike],
    )


def query_key(text: str, analyzer: Analyzer) -> str:
    """Return what queries of the same words share, whatever their order, case and endings."""
    return " ".join(sorted(set(analyzer.tokens(text)))) or normalize(text)


def find_alike(texts: Sequence[str], others: Sequence[str], *, at_once: int = 2000) -> list[bool]:
    """Return for each text whether one of `others` is nearly the same."""
    if not others:
        return [False] * len(texts)
    normal = [normalize(other) for other in others]
    found: list[bool] = []
    for start in range(0, len(texts), at_once):
        part = [normalize(text) for text in texts[start : start + at_once]]
        scores = process.cdist(part, normal, scorer=fuzz.token_sort_ratio, score_cutoff=ALIKE, dtype=np.uint8)
        found += (scores.max(axis=1) >= ALIKE).tolist()
    return found
