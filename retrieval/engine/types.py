"""The values that pass between the parts of the engine. Plain Python, frozen, no behaviour beyond their own facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


class EngineError(Exception):
    """Something the engine cannot do; the message names the value and the cure."""


class IndexUnavailable(EngineError):  # noqa: N818 - a state of the world, read as such where it is caught
    """No index can answer now: none built, half built, of another version, or its server is down."""


class Sort(StrEnum):
    RELEVANCE = "relevance"
    PRICE_ASC = "price_asc"
    PRICE_DESC = "price_desc"
    RATING = "rating"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Document:
    """One product as the engine sees it: texts to match, facts to filter, count and sort by."""

    product_id: int
    sku: str
    title: str
    description: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()  # names, root first
    category_path: str = ""  # slugs: 'home/kitchen/kettles'
    attributes: Mapping[str, str] = field(default_factory=dict)
    gtin: str = ""
    price_cents: int | None = None
    rating: float | None = None
    rating_count: int = 0
    is_in_stock: bool = True
    popularity: float = 0.0
    released: int = 0  # days since 1970-01-01, 0 when not known
    content_hash: str = ""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Term ids and weights; the ids are unique and fit 32 bits."""

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Point:
    """What the index stores of one product."""

    product_id: int
    dense: npt.NDArray[np.float32]  # shape (dim,), unit length
    sparse: SparseVector
    content_hash: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """Products and scores, best first; both arrays have the same length."""

    product_ids: Ids
    scores: Scores

    def __len__(self) -> int:
        return len(self.product_ids)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.product_ids.tolist(), self.scores.tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a shopper narrowed the results to. Values of one field are alternatives; fields add up."""

    category: str = ""  # a path of slugs; its whole subtree is meant
    brands: tuple[str, ...] = ()
    price_min_cents: int | None = None
    price_max_cents: int | None = None
    rating_min: float | None = None
    in_stock: bool = False
    attributes: tuple[tuple[str, tuple[str, ...]], ...] = ()  # ((name, (value, …)), …)


@dataclass(frozen=True, slots=True)
class Query:
    """One question of one shopper. Empty text browses: all products that pass the filters."""

    text: str
    filters: Filters = Filters()
    sort: Sort = Sort.RELEVANCE
    page: int = 1
    page_size: int = 24
    is_verbatim: bool = False  # search exactly this: no spelling correction


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a hit came from: rank (from 1) and score at every stage, None where it was not found."""

    lexical_rank: int | None = None
    lexical_score: float | None = None
    dense_rank: int | None = None
    dense_score: float | None = None
    fused_rank: int | None = None
    fused_score: float | None = None
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    product_id: int
    score: float
    explanation: Explanation = Explanation()


@dataclass(frozen=True, slots=True)
class FacetValue:
    value: str  # what a filter takes
    label: str  # what a shopper reads
    count: int  # how many products choosing it shows
    is_selected: bool = False
    depth: int = 0  # of a category in its tree, roots 0


@dataclass(frozen=True, slots=True)
class Facet:
    """Values of one field in the result set. `field`: category, brand, price, rating, stock or attr.NAME."""

    field: str
    label: str
    values: tuple[FacetValue, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """The answer to one query: one page of hits out of `total`, and counts over all of them."""

    hits: tuple[Hit, ...]
    total: int
    facets: tuple[Facet, ...] = ()
    searched_text: str = ""  # what was searched in the end
    corrected_from: str = ""  # what was typed, when it was corrected
    suggestion: str = ""  # a correction offered but not applied
    notice: str = ""  # said to the shopper when the answer is a lesser one
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    config_name: str = ""
