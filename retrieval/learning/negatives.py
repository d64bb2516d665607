"""Hard negatives: products that words or vectors take for the answer, without those a teacher thinks may be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from retrieval.engine.bm25 import Bm25, term_id
from retrieval.engine.lexicon import LexiconBuilder
from retrieval.engine.text import Analyzer, field_tokens, reader_input
from retrieval.engine.types import Document, Scores, SparseVector, Vectors
from retrieval.learning.examples import EXACT, LabelledQuery

SUBSTITUTE = 2.0  # grade from which a product is no negative: it should rank below what was asked for, above all else
BLOCK = 256  # queries scored at once against every product
POSITIVES_READ = 3  # by the teacher, for each query


class Encoder(Protocol):
    """Towers being trained, or an exported model: unit-length vectors, shape (len(texts), dim)."""

    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...

    def encode_products(self, texts: Sequence[str]) -> Vectors: ...


class Teacher(Protocol):
    """A cross-encoder: one score per (content hash, text), higher is better."""

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores: ...


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """`count` negatives are kept of each query, at most `known_share` of them products already known to be wrong.

    Each miner brings `depth` candidates. The teacher reads the first `2 * count` of them; its score of a negative
    is at least `margin` below that of the positives. `pool` is the most products that are searched.
    """

    count: int = 8
    depth: int = 24
    known_share: float = 0.5
    margin: float = 2.0  # in logits: the odds of being right are e^2 = 7 times lower
    pool: int = 30_000
    seed: int = 1


@dataclass(frozen=True)
class Corpus:
    """Products to find negatives among. `weights`, shape (products, terms), are BM25's with the IDF in them."""

    documents: Sequence[Document]
    bm25: Bm25
    terms: npt.NDArray[np.uint32]  # ascending
    weights: csr_array
    vectors: Vectors | None = None  # unit length, shape (products, dim)

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def product_ids(self) -> npt.NDArray[np.int64]:
        return np.array([document.product_id for document in self.documents], np.int64)

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each product by its id."""
        return {product_id: place for place, product_id in enumerate(self.product_ids.tolist())}

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many products have each of `terms`."""
        return np.bincount(self.weights.indices, minlength=len(self.terms))

    def idf(self, token: str) -> float:
        """Return the token's inverse document frequency, as the index has it; highest for one no product has."""
        term = np.uint32(term_id(token))
        place = int(np.searchsorted(self.terms, term))
        is_known = place < len(self.terms) and self.terms[place] == term
        return float(to_idf(self.counts[place] if is_known else 0, len(self)))

    def weigh_tokens(self, text: str) -> dict[str, float]:
        """Return the inverse document frequency of each token of a query, once."""
        return {token: self.idf(token) for token in set(self.bm25.analyzer.tokens(text))}

    def with_vectors(self, vectors: Vectors) -> Corpus:
        return replace(self, vectors=vectors)

    def text_of(self, product_id: int) -> tuple[str, str]:
        """Return a product as rerankers take it."""
        return reader_input(self.documents[self.places[product_id]])


def build_corpus(documents: Sequence[Document], analyzer: Analyzer) -> Corpus:
    """Return the corpus of these documents, without dense vectors."""
    tokens = [field_tokens(document, analyzer) for document in documents]
    lexicon = LexiconBuilder()
    for document, found in zip(documents, tokens, strict=True):
        lexicon.add(document, found)
    bm25 = Bm25(analyzer, lexicon.build().average_lengths if documents else {})
    vectors = [bm25.weigh(found) for found in tokens]
    terms = np.unique(np.concatenate([np.empty(0, np.uint32), *(vector.indices for vector in vectors)]))
    weights = to_matrix(vectors, terms)
    counts = np.bincount(weights.indices, minlength=len(terms))
    weights.data *= to_idf(counts, len(documents))[weights.indices].astype(np.float32)
    return Corpus(documents, bm25, terms, weights)


def to_idf(counts: Any, total: int) -> Any:
    """Return the inverse document frequency of terms that so many of `total` products have."""
    return np.log(1 + (total - counts + 0.5) / (counts + 0.5))


def to_matrix(vectors: Sequence[SparseVector], terms: npt.NDArray[np.uint32]) -> csr_array:
    """Return the vectors as rows, shape (len(vectors), len(terms)); terms not among `terms` are left out."""
    columns = [np.searchsorted(terms, vector.indices) for vector in vectors]
    known = [
        np.flatnonzero(terms[np.minimum(found, len(terms) - 1)] == vector.indices) if len(terms) else found[:0]
        for found, vector in zip(columns, vectors, strict=True)
    ]
    starts = np.concatenate([[0], np.cumsum([len(chosen) for chosen in known])]).astype(np.int64)
    empty = [np.empty(0, np.int64)]
    indices = np.concatenate(empty + [found[chosen] for found, chosen in zip(columns, known, strict=True)])
    values = [vector.values[chosen] for vector, chosen in zip(vectors, known, strict=True)]
    data = np.concatenate([np.empty(0, np.float32), *values])
    return csr_array((data, indices, starts), shape=(len(vectors), len(terms)))


def mine_bm25(corpus: Corpus, queries: Sequence[LabelledQuery], depth: int) -> list[list[int]]:
    """Return for each query the products its words find, best first, at most `depth`; known answers left out."""
    asked = to_matrix([corpus.bm25.query_vector(query.text) for query in queries], corpus.terms)
    products = corpus.weights.T.tocsr()

    def score(block: slice) -> Scores:
        scores: Scores = (asked[block] @ products).toarray()
        return np.where(scores > 0, scores, -np.inf)

    return _mine(corpus, queries, score, depth)


def mine_dense(corpus: Corpus, queries: Sequence[LabelledQuery], query_vectors: Vectors, depth: int) -> list[list[int]]:
    """Return for each query the products of nearest vectors, best first, at most `depth`; known answers left out.

    `query_vectors`: unit length, shape (queries, dim).
    """
    assert corpus.vectors is not None
    products = corpus.vectors.T
    return _mine(corpus, queries, lambda block: query_vectors[block] @ products, depth)


def _mine(
    corpus: Corpus, queries: Sequence[LabelledQuery], score: Callable[[slice], Scores], depth: int
) -> list[list[int]]:
    found: list[list[int]] = []
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        scores = score(block)
        for row, query in zip(scores, queries[block], strict=True):
            _hide(row, corpus, query)
            found.append(corpus.product_ids[find_best(row, depth)].tolist())
    return found


def _hide(scores: Scores, corpus: Corpus, query: LabelledQuery) -> None:
    """Take from the scores what answers the query, and what another shop sells: nobody knows whether it does."""
    spared = [corpus.places[product_id] for product_id in find_spared(query) if product_id in corpus.places]
    scores[spared] = -np.inf
    ids = np.array(query.positives[:1], np.int64)
    if len(ids):
        scores[is_of_sample(corpus.product_ids) != is_of_sample(ids)[0]] = -np.inf


def find_best(scores: Scores, depth: int) -> npt.NDArray[np.int64]:
    """Return the places of the highest scores, best first, at most `depth`; infinitely low ones left out."""
    depth = min(depth, len(scores))
    best = np.argpartition(-scores, depth - 1)[:depth] if depth else np.empty(0, np.int64)
    best = best[np.isfinite(scores[best])]
    return best[np.lexsort((best, -scores[best]))]


def filter_by_teacher(candidates: Sequence[int], scores: Scores, positive: float, margin: float) -> list[int]:
    """Return the candidates the teacher scores more than `margin` below a positive, in their order.

    Positive-aware mining, TopK-MarginPos of Moreira et al. 2024 (NV-Retriever): a hard negative that is nearly as
    good as the positive is likely an answer nobody has labelled.
    """
    return [
        candidate for candidate, score in zip(candidates, scores.tolist(), strict=True) if score < positive - margin
    ]


def mine(
    queries: Sequence[LabelledQuery],
    corpus: Corpus,
    encoder: Encoder | None,
    teacher: Teacher | None,
    settings: MiningSettings,
    *,
    on_query: Callable[[int], None] = lambda done: None,
) -> dict[str, list[int]]:
    """Return hard negatives by the query's text: known ones first, then of words and of vectors in equal parts.

    Queries without any get products by chance. Without an encoder words alone find them, as in a corpus without
    vectors; without a teacher nothing is filtered. `on_query` is told how many queries are done.
    """
    found = [mine_bm25(corpus, queries, settings.depth)]
    if encoder is not None and corpus.vectors is not None:
        vectors = encoder.encode_queries([query.text for query in queries])
        found.append(mine_dense(corpus, queries, vectors, settings.depth))
    rng = np.random.default_rng(settings.seed)
    negatives: dict[str, list[int]] = {}
    for done, (query, *lists) in enumerate(zip(queries, *found, strict=True)):
        on_query(done)
        candidates = interleave(lists)[: 2 * settings.count]
        if teacher is not None:
            candidates = ask_teacher(teacher, corpus, query, candidates, settings.margin)
        negatives[query.text] = _choose(query, candidates, corpus, settings, rng)
    return negatives


def interleave(lists: Iterable[Sequence[int]]) -> list[int]:
    """Return the first of each list, then the second of each, without repeats."""
    turns = zip_longest(*lists)
    return list(dict.fromkeys(product_id for turn in turns for product_id in turn if product_id is not None))


def ask_teacher(
    teacher: Teacher, corpus: Corpus, query: LabelledQuery, candidates: Sequence[int], margin: float
) -> list[int]:
    """Return the candidates that are clearly below the query's positives, by the mean of a few of them."""
    positives = [product_id for product_id in query.positives if product_id in corpus.places][:POSITIVES_READ]
    if not positives or not candidates:
        return list(candidates)
    scores = teacher.score(query.text, [corpus.text_of(product_id) for product_id in [*positives, *candidates]])
    return filter_by_teacher(candidates, scores[len(positives) :], float(scores[: len(positives)].mean()), margin)


def _choose(
    query: LabelledQuery, mined: Sequence[int], corpus: Corpus, settings: MiningSettings, rng: np.random.Generator
) -> list[int]:
    """Return known wrong products, the ones just found first, then mined ones, or any where there are neither."""
    wrong = set(find_wrong(query))
    known = [product_id for product_id in mined if product_id in wrong]
    known += [product_id for product_id in find_wrong(query) if product_id not in set(known)]
    fresh = [product_id for product_id in mined if product_id not in wrong]
    share = min(int(settings.count * settings.known_share), len(known))
    chosen = known[: max(share, settings.count - len(fresh))] + fresh
    return chosen[: settings.count] or _draw(query, corpus, rng)


def _draw(query: LabelledQuery, corpus: Corpus, rng: np.random.Generator) -> list[int]:
    drawn = rng.choice(corpus.product_ids, min(len(corpus), 8)).tolist() if len(corpus) else []
    return [product_id for product_id in drawn if product_id not in find_spared(query)]


def find_wrong(query: LabelledQuery) -> list[int]:
    """Return the products known to be of no use to who asked."""
    return [product_id for product_id, grade in query.grades.items() if grade < SUBSTITUTE]


def find_spared(query: LabelledQuery) -> frozenset[int]:
    """Return the products that are no negatives of a query: what answers it, good substitutes, and what may be one."""
    known = frozenset(product_id for product_id, grade in query.grades.items() if grade >= SUBSTITUTE)
    return known | query.unsure.difference(query.grades)


def is_of_sample(product_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which products are the sample shop's: their ids are below 0."""
    return product_ids < 0


def measure_false_negatives(mined: Mapping[str, Sequence[int]], grades: Mapping[str, Mapping[int, float]]) -> float:
    """Return the share of mined negatives, by the query's text, that truth grades EXACT; 0 where none were mined."""
    graded = [grades.get(text, {}).get(product_id, 0.0) for text, found in mined.items() for product_id in found]
    return sum(grade >= EXACT for grade in graded) / len(graded) if graded else 0.0
