"""What a training of this shop learns from: its sources gathered, split, checked and mixed by weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval.engine.text import embedding_text, normalize
from retrieval.engine.types import Document
from retrieval.evaluation.guards import keep_cold
from retrieval.learning.examples import LabelledQuery, split_queries
from retrieval.learning.mixing import (
    TrainingDataError,
    check,
    check_agreement,
    check_weights,
    hash_of,
    merge,
    weigh,
)
from retrieval.models import JudgementSet
from retrieval.models.learning import ModelKind
from retrieval.pseudo_source import gather_pseudo
from retrieval.setup import get_analyzer, get_encoder
from retrieval.training_sources import (
    CATALOGUE,
    JUDGEMENTS,
    NAMES,
    PSEUDO,
    Amounts,
    Gathered,
    gather,
    is_rated,
    read_catalogue,
)

__all__ = ["Amounts", "Collected", "collect", "default_sources", "training_text", "training_texts"]

CATALOGUE_WEIGHT, JUDGEMENTS_WEIGHT = 1.0, 2.0
PSEUDO_WEIGHT = 3.0  # queries as people ask them teach more than those made from texts, which tell of more products
# The same for every training: a model trained on from another must not be judged by what that one learned.
SPLIT_SEED = 1
Source = tuple[str, float]  # name and weight


class Budget(Protocol):
    """How long a text an encoder of products takes."""

    max_tokens: int

    def count_tokens(self, text: str) -> int: ...


@dataclass(frozen=True)
class Collected:
    """Queries to learn from, those never learned from, and every product that either speaks of, by id.

    Products of the sample shop have ids below 0. `report` can be stored as JSON.
    """

    queries: list[LabelledQuery]
    held_out: list[LabelledQuery]
    documents: Mapping[int, Document]
    report: Mapping[str, Any]


def default_sources(kind: str = ModelKind.TWO_TOWER) -> list[Source]:
    """Return the catalogue, and with twice its weight every judgement set that has judgements.

    Where nothing is judged yet, two towers learn from pseudo-labels too. They are a cross-encoder's own, which would
    learn nothing from them.
    """
    names = JudgementSet.objects.filter(judgements__isnull=False).distinct().values_list("name", flat=True)
    judged = [(f"{JUDGEMENTS}:{name}", JUDGEMENTS_WEIGHT) for name in names]
    pseudo = [] if judged or kind != ModelKind.TWO_TOWER else [(PSEUDO, PSEUDO_WEIGHT)]
    return [(CATALOGUE, CATALOGUE_WEIGHT), *pseudo, *judged]


def collect(
    sources: Sequence[Source],
    seed: int = 1,
    *,
    held_out: float = 0.2,
    amounts: Amounts | None = None,
    on_source: Callable[[str], None] = lambda name: None,
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> Collected:
    """Return what the sources give, split by query across all of them before anything else is done.

    Sources: catalogue, pseudo, sample, judgements:NAME, file:PATH. `on_source` is told of each before it is read,
    `on_part` how much of it is done where that takes long. Raises TrainingDataError for one that is unknown, gives
    nothing or speaks of another catalogue, and for queries that nothing can be learned from.
    """
    weights, amounts = _to_weights(sources), amounts or Amounts()
    gathered = _gather_each(weights, seed, amounts, on_source, on_part)
    every = [query for found in gathered.values() for query in found.queries]
    split = split_queries(every, get_analyzer(), held_out=held_out, seed=SPLIT_SEED)
    documents = _gather_documents(gathered, seed, amounts)
    learned = [query for query in split.train if not is_looked_up(query, documents)]
    check(learned, documents)
    paths = {product_id: document.category_path for product_id, document in documents.items()}
    merged = merge(_withhold(_by_source(gathered, learned), paths), weights)
    queries = weigh(merged.sources, weights)
    apart = weigh(merge(_leave_to_people(_by_source(gathered, split.held_out)), weights).sources, weights)
    report = {
        "sources": [{"name": name, "weight": weights[name]} | found.to_facts() for name, found in gathered.items()],
        "queries": len(queries),
        "held_out": len(apart),
        "left_out": len(split.left_out),
        "looked_up": len(split.train) - len(learned),
        "shared": merged.shared,
        "contradicted": merged.contradicted,
        "products": len(documents),
        "data_hash": hash_of(queries),
        "seed": seed,
    }
    return Collected(queries, apart, documents, report)


def _gather_each(
    names: Iterable[str],
    seed: int,
    amounts: Amounts,
    on_source: Callable[[str], None],
    on_part: Callable[[int, int], None],
) -> dict[str, Gathered]:
    """Return what each source gives; raises TrainingDataError for one that contradicts itself."""
    gathered: dict[str, Gathered] = {}
    for name in names:
        on_source(name)
        if name == PSEUDO:
            gathered[name] = gather_pseudo(seed, amounts, on_part, catalogue=gathered.get(CATALOGUE))
        else:
            gathered[name] = gather(name, seed, amounts)
        check_agreement(gathered[name].queries, name)
    return gathered


def _gather_documents(gathered: Mapping[str, Gathered], seed: int, amounts: Amounts) -> dict[int, Document]:
    """Return the products of all sources; beside what people rated the catalogue's, for what is wrong is there too."""
    documents = {product_id: one for found in gathered.values() for product_id, one in found.documents.items()}
    if CATALOGUE not in gathered and any(is_rated(name) for name in gathered):
        documents = read_catalogue(seed, amounts.most_products) | documents
    return documents


def is_looked_up(query: LabelledQuery, documents: Mapping[int, Document]) -> bool:
    """Return whether the query is the SKU or GTIN of a product it grades: words find that, and nothing is learned."""
    rated = (documents[product_id] for product_id in query.grades if product_id in documents)
    return normalize(query.text) in {normalize(code) for document in rated for code in (document.sku, document.gtin)}


def _to_weights(sources: Sequence[Source]) -> dict[str, float]:
    weights = {name: float(weight) for name, weight in sources}
    if not sources:
        raise TrainingDataError(f"no source to learn from, expected at least one of: {NAMES}")
    if len(weights) < len(sources):
        raise TrainingDataError(f"a source is named twice among {', '.join(name for name, _ in sources)}; name it once")
    check_weights(weights)
    return weights


def _by_source(gathered: Mapping[str, Gathered], queries: Iterable[LabelledQuery]) -> dict[str, list[LabelledQuery]]:
    """Return those of the queries that each source gave."""
    kept = {id(query) for query in queries}
    return {name: [query for query in found.queries if id(query) in kept] for name, found in gathered.items()}


def _withhold(sources: Mapping[str, list[LabelledQuery]], paths: Mapping[int, str]) -> dict[str, list[LabelledQuery]]:
    """Return the sources, made queries asking for no category that is kept cold.

    A guard set shows what becomes of categories that nobody asked for; queries made from the catalogue would ask for
    all of them.
    """
    kept = {name: keep_cold(sources.get(name, []), paths, SPLIT_SEED) for name in (CATALOGUE, PSEUDO)}
    return {name: kept.get(name, queries) for name, queries in sources.items()}


def _leave_to_people(sources: Mapping[str, list[LabelledQuery]]) -> dict[str, list[LabelledQuery]]:
    """Return the sources, made queries left out that people graded too: what they said is not to be mixed with it."""
    asked = {normalize(query.text) for name, queries in sources.items() if is_rated(name) for query in queries}
    return {
        name: [query for query in queries if is_rated(name) or normalize(query.text) not in asked]
        for name, queries in sources.items()
    }


def training_text(document: Document, encoder: Budget | None = None) -> str:
    """Return what the index embeds of the product, by the site's encoder unless another is given."""
    encoder = encoder or get_encoder()
    return embedding_text(document, encoder.count_tokens, encoder.max_tokens)


def training_texts(documents: Mapping[int, Document], encoder: Budget | None = None) -> dict[int, str]:
    """Return what the index embeds of each product, by id."""
    encoder = encoder or get_encoder()
    return {product_id: training_text(document, encoder) for product_id, document in documents.items()}
