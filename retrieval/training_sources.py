"""Where training data comes from: the catalogue, judgement sets, files of ratings and the sample shop."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from catalog.models import Product, build_path
from catalog.sample.queries import make_queries as make_sample_queries
from catalog.sample.shop import SampleProduct, make_products
from catalog.sample.taxonomy import load_taxonomy
from retrieval.documents import CategoryNames, iterate_documents, to_document
from retrieval.engine.text import normalize, reader_text
from retrieval.engine.types import Document
from retrieval.evaluation.judgements import JudgementsError
from retrieval.judgement_files import in_batches, read_ratings
from retrieval.learning.examples import JudgedPair, LabelledQuery
from retrieval.learning.made_queries import MOST_POSITIVES, make_queries
from retrieval.learning.mixing import TrainingDataError
from retrieval.models import JudgementSet

CATALOGUE, PSEUDO, SAMPLE, JUDGEMENTS, FILE = "catalogue", "pseudo", "sample", "judgements", "file"
NAMES = f"{CATALOGUE}, {PSEUDO}, {SAMPLE}, {JUDGEMENTS}:NAME, {FILE}:PATH"
SHOWN_SKUS = 5
WRONG = 10  # products of the sample shop that are wrong for a query, beside those that are nearly right
MADE_SHARE = 0.2  # of what is drawn from the sample shop: queries made from its texts
# What no text of a product answers: its SKU, which is looked up, and what the shop does not sell.
LEFT_OUT_KINDS = ("sku", "absent")


def is_rated(source: str) -> bool:
    """Return whether people graded what they were shown there, not all there is by a rule."""
    return source.startswith((f"{JUDGEMENTS}:", f"{FILE}:"))


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is made where it is made; of a catalogue with more than `most_products`, chance chooses so many.

    `pseudo_queries`: how many are asked, of which few are answered.
    """

    catalogue_queries: int = 6000
    pseudo_queries: int = 6000
    sample_products: int = 20_000
    sample_queries: int = 3000
    most_products: int = 50_000


@dataclass(frozen=True)
class Gathered:
    """One source. `unknown_skus` were graded but are not in the catalogue."""

    queries: list[LabelledQuery]
    documents: Mapping[int, Document]
    unknown_skus: Sequence[str] = ()

    def to_facts(self) -> dict[str, Any]:
        return {
            "queries": len(self.queries),
            "grades": sum(len(query.grades) for query in self.queries),
            "products": len(self.documents),
            "unknown_skus": len(self.unknown_skus),
            "unknown_examples": list(self.unknown_skus[:SHOWN_SKUS]),
        }


def gather(name: str, seed: int, amounts: Amounts) -> Gathered:
    """Return what the source of this name gives; raises TrainingDataError. PSEUDO takes models: see `gather_pseudo`."""
    kind, _, rest = name.partition(":")
    if name == CATALOGUE:
        return gather_catalogue(seed, amounts)
    if name == SAMPLE:
        return gather_sample(seed, amounts)
    if kind == JUDGEMENTS and rest:
        return gather_judgements(rest)
    if kind == FILE and rest:
        return gather_file(Path(rest).expanduser())
    raise TrainingDataError(f"unknown source {name!r}, expected one of: {NAMES}")


def gather_catalogue(seed: int, amounts: Amounts) -> Gathered:
    """Return queries made from the products on sale."""
    documents = read_catalogue(seed, amounts.most_products)
    if not documents:
        raise TrainingDataError("the catalogue has no product on sale; run: manage.py import_products FILE")
    return Gathered(make_queries(list(documents.values()), amounts.catalogue_queries, seed), documents)


def read_catalogue(seed: int, most: int) -> dict[int, Document]:
    """Return the products on sale by id, or `most` of them drawn by chance."""
    product_ids = list(Product.objects.active().order_by("pk").values_list("pk", flat=True))
    if len(product_ids) > most:
        product_ids = sorted(random.Random(f"products-{seed}").sample(product_ids, most))
    return {
        document.product_id: document
        for part in in_batches(product_ids)
        for batch in iterate_documents(Product.objects.filter(pk__in=part))
        for document in batch
    }


def gather_judgements(name: str) -> Gathered:
    """Return the queries of a judgement set."""
    judgement_set = JudgementSet.objects.filter(name=name).first()
    if judgement_set is None:
        names = ", ".join(JudgementSet.objects.values_list("name", flat=True)) or "none yet"
        raise TrainingDataError(f"unknown judgement set {name!r}, expected one of: {names}")
    rows = judgement_set.judgements.order_by("query", "sku").values_list("query", "sku", "grade")
    return label(f"{JUDGEMENTS}:{name}", list(rows.iterator()))


def gather_file(path: Path) -> Gathered:
    """Return the queries of a file of ratings, or of queries.tsv and qrels.tsv in a folder."""
    is_folder = path.is_dir()
    try:
        ratings = (
            read_ratings(queries=path / "queries.tsv", qrels=path / "qrels.tsv")
            if is_folder
            else read_ratings(file=path)
        )
    except JudgementsError as error:
        raise TrainingDataError(str(error)) from error
    return label(f"{FILE}:{path}", [(rating.query, rating.sku, rating.grade) for rating in ratings])


def label(source: str, rows: Sequence[tuple[str, str, float]]) -> Gathered:
    """Return queries with the grades of these (query, SKU, grade), on sale or not; raises TrainingDataError.

    A query written in two ways is two, so that their contradictions are seen.
    """
    if not rows:
        raise TrainingDataError(f"{source} has no ratings; import some, or leave it out")
    skus = {sku for _, sku, _ in rows}
    documents = find_products(skus)
    if not documents:
        raise TrainingDataError(
            f"none of the {len(skus)} products rated in {source} is in the catalogue, such as {min(skus)!r}: import "
            "the catalogue that these ratings were made for"
        )
    grades: dict[str, dict[int, float]] = defaultdict(dict)
    for text, sku, grade in rows:
        if sku in documents:
            grades[text][documents[sku].product_id] = grade
    queries = [LabelledQuery(text, graded, source) for text, graded in grades.items() if normalize(text)]
    unknown = sorted(skus.difference(documents))
    return Gathered(queries, {document.product_id: document for document in documents.values()}, unknown)


def find_products(skus: Iterable[str]) -> dict[str, Document]:
    """Return the products of these SKUs, on sale or not, by SKU."""
    categories = CategoryNames()
    found = (Product.objects.filter(sku__in=part) for part in in_batches(sorted(skus)))
    return {product.sku: to_document(product, categories) for products in found for product in products}


def gather_sample(seed: int, amounts: Amounts) -> Gathered:
    """Return the queries of a sample shop made for this, whose products have ids below 0."""
    products = list(make_products(amounts.sample_products, seed))
    queries = ask_sample(products, seed, amounts.sample_queries)
    documents = {-number: to_sample_document(-number, one) for number, one in enumerate(products, 1)}
    return Gathered(queries + _make_more(queries, list(documents.values()), seed), documents)


def ask_sample(products: Sequence[SampleProduct], seed: int, count: int) -> list[LabelledQuery]:
    """Return what is asked in a sample shop of these products, with its truth: `count`, less what has no answer."""
    product_ids = {product.sku: -number for number, product in enumerate(products, 1)}
    rng = random.Random(f"queries-{seed}")
    asked = make_sample_queries(list(products), load_taxonomy(), rng, count)
    queries = []
    for query in asked:
        if query.kind not in LEFT_OUT_KINDS:
            grades = {-rng.randint(1, len(products)): 0.0 for _ in range(WRONG)}
            grades |= {product_ids[sku]: float(grade) for sku, grade in query.grades.items()}
            queries.append(LabelledQuery(query.text, grades, f"{SAMPLE}: {query.kind}", is_complete=True))
    return queries


def _make_more(queries: Sequence[LabelledQuery], documents: Sequence[Document], seed: int) -> list[LabelledQuery]:
    """Return queries made from the sample shop's texts, as of any catalogue, drawn MADE_SHARE of the time.

    Their truth is only as good as the texts, but they ask in other forms: titles, single words, codes.
    """
    asked = {normalize(query.text) for query in queries}
    made = make_queries(documents, len(queries) // 2, seed)
    fresh = [query for query in made if normalize(query.text) not in asked]
    weight = MADE_SHARE / (1 - MADE_SHARE) * len(queries) / max(len(fresh), 1)
    return [
        replace(query, source=f"{SAMPLE}: made", weight=weight, is_complete=len(query.positives) < MOST_POSITIVES)
        for query in fresh
    ]


def to_sample_document(product_id: int, product: SampleProduct) -> Document:
    """Return the product as it would be indexed once its row was imported."""
    row, names = product.to_row(), (product.kind.department, *product.kind.category)
    texts = {name: row[name] for name in ("sku", "title", "description", "brand", "attributes", "gtin")}
    return Document(product_id, category=names, category_path=build_path(names), **texts)


@lru_cache(maxsize=1)
def make_sample_pairs(count: int = 128, seed: int = 1) -> list[JudgedPair]:
    """Return queries of the sample shop with whole texts of its products, half of them answers. Always the same."""
    found = gather_sample(seed, Amounts(sample_products=5 * count, sample_queries=count))
    queries, product_ids, rng = found.queries[:count], sorted(found.documents), random.Random(f"pairs-{seed}")
    chosen = [rng.choice(query.positives if rng.random() < 0.5 else product_ids) for query in queries]
    return [
        JudgedPair(query.text, reader_text(found.documents[one]), one in query.positives)
        for query, one in zip(queries, chosen, strict=True)
    ]
