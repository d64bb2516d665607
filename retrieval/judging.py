"""A new model beside the one that serves: the same queries over the same products in memory, for the gate."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import numpy as np

from retrieval.embedding import embed_texts
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.fusion import Floats
from retrieval.engine.text import normalize
from retrieval.engine.types import Document, Ids, Ranking, Vectors
from retrieval.evaluation.gate import HELD_OUT, MARGIN, Verdict, judge
from retrieval.evaluation.guards import make_sku_queries, pick_cold_queries
from retrieval.evaluation.metrics import NDCG, ndcg
from retrieval.generations import get_analyzer
from retrieval.judgement_files import in_batches
from retrieval.learning.examples import LabelledQuery, query_key
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.mixing import TrainingDataError
from retrieval.learning.negatives import Corpus, build_corpus
from retrieval.models import JudgementSet, PastQuery
from retrieval.pseudo_source import OnPart
from retrieval.reading import Reading, read_again
from retrieval.training_data import Collected, training_texts
from retrieval.training_sources import CATALOGUE, JUDGEMENTS, Amounts, gather, is_rated

MOST_PRODUCTS = 20_000  # of one shop that are searched: those graded, and others by chance
MOST_QUERIES = 1000  # of one set
GUARD_QUERIES = 300
CURVE_PRODUCTS = 3000
DEPTH = 200
CODES, OLD, COLD = "SKUs and model numbers", "old queries", "cold categories"
PART, SEARCHED = "held out of ", "past searches"  # of one source, or of what shoppers searched for
UNPROVEN = "what it learned from: rate some queries, or have shoppers compare both rankings"
QuerySets = dict[str, list[LabelledQuery]]
Rankings = dict[str, list[Ids]]


def _do_nothing(done: int, total: int) -> None: ...


class ProductEncoder(Protocol):
    """A two-tower model at work or while it learns."""

    model_version: str
    max_tokens: int

    def count_tokens(self, text: str) -> int: ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors: ...

    def encode_products(self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None) -> Vectors: ...


@dataclass(frozen=True)
class Shop:
    """The products of one catalogue, this one's or the sample's, with vectors of the model that last read them."""

    corpus: Corpus
    documents: Mapping[int, Document]

    def search(self, encoder: ProductEncoder, config: SearchConfig, on_progress: OnPart) -> MemorySearch:
        """Return a search of the shop by this encoder's vectors."""
        texts = training_texts(self.documents, encoder)
        ordered = [texts[product_id] for product_id in self.corpus.product_ids.tolist()]
        vectors = self._embed(ordered, encoder, lambda done: on_progress(done, len(ordered)))
        return MemorySearch(self.corpus.with_vectors(vectors), encoder, config)

    def _embed(self, texts: Sequence[str], encoder: ProductEncoder, on_progress: Callable[[int], None]) -> Vectors:
        """Return the products' vectors: of the shop's own by a finished model, those that an index has, or will."""
        is_own = bool((self.corpus.product_ids > 0).all())
        if is_own and isinstance(encoder, TwoTowerEncoder):
            return embed_texts(texts, encoder, on_progress)
        return encoder.encode_products(texts, on_progress)


@dataclass(frozen=True)
class Court:
    """The sets of queries both models are judged on, and the shops that their products are of."""

    sets: QuerySets
    shops: Sequence[Shop]
    _rankings: dict[str, dict[str, Ranking]] = field(default_factory=dict)

    def rank(self, encoder: ProductEncoder, on_progress: OnPart = _do_nothing) -> dict[str, Ranking]:
        """Return what the hybrid search with this encoder finds, by query and shop, at most DEPTH products each."""
        if encoder.model_version not in self._rankings:
            self._rankings[encoder.model_version] = dict(self._rank(encoder, on_progress))
        return self._rankings[encoder.model_version]

    def _rank(self, encoder: ProductEncoder, on_progress: OnPart) -> Iterable[tuple[str, Ranking]]:
        for number, shop in enumerate(self.shops):
            asked = [query for found in self.sets.values() for query in found if _is_of(query, shop)]
            texts = list(dict.fromkeys(query.text for query in asked))
            search = shop.search(encoder, make_config(), on_progress)
            for text, ranking in zip(texts, search.search(texts, DEPTH), strict=True):
                yield f"{number} {text}", ranking

    def score(
        self, encoder: ProductEncoder, reading: Reading | None = None, on_progress: OnPart = _do_nothing
    ) -> dict[str, Floats]:
        """Return nDCG@10 of every query by set: what the search finds, read again where there is a reader."""
        rankings, reading = self.rank(encoder, on_progress), reading or Reading()
        total, done = sum(len(queries) for queries in self.sets.values()), count()
        scores: dict[str, Floats] = {}
        for name, queries in self.sets.items():
            found = np.empty(len(queries), np.float64)
            for place, query in enumerate(queries):
                on_progress(next(done), total)
                found[place] = self._score(query, rankings, reading)
            scores[name] = found
        return scores

    def _score(self, query: LabelledQuery, rankings: Mapping[str, Ranking], reading: Reading) -> float:
        number = next(number for number, shop in enumerate(self.shops) if _is_of(query, shop))
        found = read_again(query.text, rankings[f"{number} {query.text}"], self.shops[number].corpus, reading)
        return ndcg(found.tolist(), query.grades, is_condensed=is_rated(query.source))


def convene(collected: Collected, sources: Iterable[str], seed: int, *, most: int = MOST_QUERIES) -> Court:
    """Return the held-out queries and all guard sets, each at most `most` queries, over the products they need.

    A gain is to be shown on queries that people asked, where there are any. On queries made from the catalogue, models
    learn to please who made them: two towers that gained .057 nDCG@10 there lost .036 on shoppers' own.
    """
    documents = dict(collected.documents)
    sets = {HELD_OUT: find_evidence(collected.held_out), **_make_guards(collected, set(sources), seed, documents)}
    usable = {name: _draw(_keep_usable(found, documents), most, seed) for name, found in sets.items()}
    usable = {name: found for name, found in usable.items() if found}
    return Court(usable, make_shops(documents, [query for found in usable.values() for query in found], seed))


def convene_few(collected: Collected, seed: int, *, most: int) -> Court:
    """Return at most `most` held-out queries over few products: what a curve is drawn by while a model learns."""
    queries = _draw(_keep_usable(find_evidence(collected.held_out), collected.documents), most, seed)
    return Court({HELD_OUT: queries}, make_shops(collected.documents, queries, seed, most=CURVE_PRODUCTS))


def make_shops(
    documents: Mapping[int, Document], queries: Iterable[LabelledQuery], seed: int, *, most: int = MOST_PRODUCTS
) -> list[Shop]:
    """Return the shops these products are of, each with all that the queries grade and others by chance.

    Where more than `most` are graded, all of them are there, and no others.
    """
    graded = {product_id for query in queries for product_id in query.grades}
    shops = []
    for is_sample in (False, True):
        own = sorted(product_id for product_id in documents if (product_id < 0) == is_sample)
        needed = [product_id for product_id in own if product_id in graded]
        others = [product_id for product_id in own if product_id not in graded]
        room = max(most - len(needed), 0)
        if len(others) > room:
            others = random.Random(f"judged-{seed}").sample(others, room)
        chosen = {product_id: documents[product_id] for product_id in sorted([*needed, *others])}
        if needed:
            shops.append(Shop(build_corpus(list(chosen.values()), get_analyzer()), chosen))
    return shops


def find_evidence(queries: Sequence[LabelledQuery]) -> list[LabelledQuery]:
    """Return the queries that people asked, all where there are none: others were made, and are the sample shop's."""
    return [query for query in queries if is_rated(query.source)] or list(queries)


def decide(court: Court, champion: Mapping[str, Floats], challenger: Mapping[str, Floats]) -> Verdict:
    """Return the gate's verdict; without held-out queries, or with made ones alone, nothing passes."""
    if HELD_OUT not in champion:
        return Verdict(False, f"fails: no {HELD_OUT} to show a gain on; rate more queries", NDCG, MARGIN, ())
    parts = [name for name in champion if name == COLD or name.startswith(PART)]
    verdict = judge(champion, challenger, parts=parts)
    if verdict.is_passed and not any(is_rated(query.source) for query in court.sets[HELD_OUT]):
        found = verdict.reason.removeprefix("passes: ")
        told = f"fails: {found}; but nobody asked those queries: they were made, as was {UNPROVEN}"
        return replace(verdict, is_passed=False, reason=told)
    missing = [name for name in (CODES, COLD) if name not in champion]
    return replace(verdict, reason=f"{verdict.reason}; not measured: {', '.join(missing)}") if missing else verdict


def _make_guards(collected: Collected, sources: set[str], seed: int, documents: dict[int, Document]) -> QuerySets:
    """Return the guard sets by name, adding to `documents` the products they speak of."""
    paths = {product_id: document.category_path for product_id, document in documents.items()}
    guards: QuerySets = {COLD: pick_cold_queries(collected.held_out, collected.queries, paths)}
    guards |= _make_parts(collected, sources)
    trained = {query_key(query.text, get_analyzer()) for query in [*collected.queries, *collected.held_out]}
    fresh = {
        name: [
            query for query in _gather(name, seed, documents) if query_key(query.text, get_analyzer()) not in trained
        ]
        for name in _other_sources(sources)
    }
    asked = _find_asked(normalize(query.text) for found in fresh.values() for query in found)
    guards |= {name: [query for query in found if normalize(query.text) not in asked] for name, found in fresh.items()}
    rated = [query for name, found in fresh.items() for query in found if name != CATALOGUE]
    old = [query for query in rated if normalize(query.text) in asked]
    own = [document for product_id, document in documents.items() if product_id > 0]
    return {CODES: make_sku_queries(own, GUARD_QUERIES, seed), **guards, OLD: old}


def _make_parts(collected: Collected, sources: set[str]) -> QuerySets:
    """Return what was held out of each source, and of what shoppers searched for, where that is not all evidence."""
    evidence = find_evidence(collected.held_out)
    parts = {name: [query for query in collected.held_out if _comes_from(query, name)] for name in sorted(sources)}
    searched = _find_asked(normalize(query.text) for query in evidence)
    parts[SEARCHED] = [query for query in evidence if normalize(query.text) in searched]
    return {f"{PART}{name}": found for name, found in parts.items() if found != evidence}


def _find_asked(texts: Iterable[str]) -> set[str]:
    """Return those of the normalised texts that shoppers have searched for."""
    return {
        text
        for part in in_batches(sorted(set(texts)))
        for text in PastQuery.objects.filter(text__in=part).values_list("text", flat=True)
    }


def _other_sources(sources: set[str]) -> list[str]:
    """Return what could have been learned from and was not: judgement sets, and queries made from the catalogue."""
    names = JudgementSet.objects.filter(judgements__isnull=False).distinct().values_list("name", flat=True)
    return [name for name in (CATALOGUE, *(f"{JUDGEMENTS}:{name}" for name in names)) if name not in sources]


def _gather(name: str, seed: int, documents: dict[int, Document]) -> list[LabelledQuery]:
    try:
        found = gather(name, seed, Amounts(catalogue_queries=GUARD_QUERIES, most_products=MOST_PRODUCTS))
    except TrainingDataError:  # of another catalogue, or empty: nothing to guard
        return []
    for product_id, document in found.documents.items():
        documents.setdefault(product_id, document)
    return found.queries


def _keep_usable(queries: Iterable[LabelledQuery], documents: Mapping[int, Document]) -> list[LabelledQuery]:
    """Return the queries with a product worth finding; products that are not known, and other shops', left out."""
    kept = []
    for query in queries:
        best = max(query.grades, key=lambda product_id: query.grades[product_id], default=0)
        grades = {
            product_id: grade
            for product_id, grade in query.grades.items()
            if product_id in documents and (product_id < 0) == (best < 0)
        }
        if any(grade > 0 for grade in grades.values()):
            kept.append(replace(query, grades=grades))
    return kept


def _draw(queries: list[LabelledQuery], most: int, seed: int) -> list[LabelledQuery]:
    return queries if len(queries) <= most else random.Random(f"judged-{seed}").sample(queries, most)


def _is_of(query: LabelledQuery, shop: Shop) -> bool:
    return next(iter(query.grades)) in shop.documents


def _comes_from(query: LabelledQuery, name: str) -> bool:
    return query.source == name or query.source.startswith(f"{name}: ")


def make_config() -> SearchConfig:
    """Return how the shop's own searches merge words and meaning, the reranking left to whoever judges it."""
    return get_config("hybrid")
