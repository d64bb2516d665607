"""What simulated shoppers look for, and which products really are that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from catalog.models import Product
from catalog.sample.queries import generate_queries
from catalog.sample.shop import make_products
from retrieval.evaluation.judgements import JudgementsError, JudgementSet, read_judgements
from retrieval.evaluation.rating_files import EXACT, to_grades

SAMPLE, SAMPLE_SEED = "sample", 7
FORMS = f"{SAMPLE}, {SAMPLE}:SEED, or QUERIES.tsv,QRELS.tsv as evaluate takes them"


@dataclass(frozen=True, slots=True)
class Truth:
    """Queries, those asked most first, and of each how relevant products are, 0 to 1 by SKU; unlisted ones are 0."""

    queries: tuple[str, ...]
    relevance: tuple[Mapping[str, float], ...]


def read_truth(source: str) -> Truth:
    """Return what is true of the sample shop, or what a pair of files says; raises JudgementsError.

    Grades of another scale are brought to 0 to 1 by the rule of `to_grades`.
    """
    name, _, seed = source.partition(":")
    if name == SAMPLE:
        return read_sample_truth(_read_seed(source, seed))
    queries, comma, qrels = source.partition(",")
    if not (comma and queries and qrels):
        raise JudgementsError(f"truth {source!r}: expected {FORMS}")
    return _to_truth(read_judgements(Path(queries), Path(qrels)))


def read_sample_truth(seed: int) -> Truth:
    """Return the queries of the sample shop of this seed with as many products as the catalogue has of it."""
    known = dict(Product.objects.values_list("sku", "title"))
    is_here = [known.get(product.sku) == product.title for product in make_products(len(known), seed)]
    count = max(compress(range(1, len(is_here) + 1), is_here), default=0)
    if 2 * sum(is_here) <= count or not count:
        raise JudgementsError(
            f"the catalogue is not the sample shop of seed {seed}: run manage.py demo first, name its seed as "
            f"{SAMPLE}:SEED, or name files of ratings as QUERIES.tsv,QRELS.tsv"
        )
    made = generate_queries(count, seed)
    return _to_truth(JudgementSet({one.query_id: one.text for one in made}, {one.query_id: one.grades for one in made}))


def _read_seed(source: str, seed: str) -> int:
    if ":" not in source:
        return SAMPLE_SEED
    if not (seed.isascii() and seed.isdigit()):
        raise JudgementsError(f"truth {source!r}: expected {FORMS}")
    return int(seed)


def _to_truth(judgements: JudgementSet) -> Truth:
    grades = to_grades(grade for graded in judgements.grades.values() for grade in graded.values())
    relevance = (
        {sku: grades[grade] / EXACT for sku, grade in judgements.grades.get(query_id, {}).items()}
        for query_id in judgements.queries
    )
    return Truth(tuple(judgements.queries.values()), tuple(relevance))
