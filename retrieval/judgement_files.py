"""Judgement sets from files and to files: graded queries come in whole or not at all, however often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from django.db import transaction

from catalog.models import Product
from retrieval.evaluation.judgements import JudgementsError
from retrieval.evaluation.rating_files import Rating, read_rating_file, read_rating_pair
from retrieval.models import Judgement, JudgementSet

BATCH = 2000
SHOWN_SKUS = 5
Item = TypeVar("Item")
HEADER = ("query", "sku", "grade")
HOW_GRADED = (
    "Grades are 0 (wrong), 1 (related), 2 (a good substitute) and 3 (exactly what is asked for). A column named grade "
    "is kept as it is. Relevances on another scale are brought to it: 3 and above count as exact where a 3 is given, "
    "else the highest does; those below are in proportion."
)


@dataclass(frozen=True, slots=True)
class ImportedRatings:
    """What an import did. `unknown_skus` are of products not in the catalogue: their ratings are kept all the same."""

    name: str
    queries: int
    ratings: int
    created: int
    updated: int
    removed: int
    unknown_skus: int
    unknown_examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = (
            f"{self.ratings:,} ratings of {self.queries:,} queries in {self.name!r}: {self.created:,} new, "
            f"{self.updated:,} changed, {self.removed:,} removed"
        )
        if not self.unknown_skus:
            return told
        return (
            f"{told}; {self.unknown_skus:,} SKUs are not in the catalogue, such as {', '.join(self.unknown_examples)}"
        )


def read_ratings(*, file: Path | None = None, queries: Path | None = None, qrels: Path | None = None) -> list[Rating]:
    """Return the ratings of one file, or of a pair; raises JudgementsError unless it is one of the two."""
    if file and not queries and not qrels:
        return read_rating_file(file)
    if queries and qrels and not file:
        return read_rating_pair(queries, qrels)
    raise JudgementsError("expected one file of ratings, or two: one of queries and one of their relevances")


def import_ratings(name: str, ratings: Sequence[Rating], *, replace: bool = False) -> ImportedRatings:
    """Bring the ratings into the judgement set of this name, made if it is not there, in one transaction.

    Grades of queries and products it has already are updated; `replace` removes what `ratings` does not have.
    Raises JudgementsError for a name that is none, and for a set made of clicks.
    """
    if not 1 <= len(name) <= 100 or name != name.strip():
        raise JudgementsError(f"name {name!r:.120}: expected 1 to 100 characters, no spaces around them")
    with transaction.atomic():
        judgement_set, _ = JudgementSet.objects.get_or_create(name=name)
        if judgement_set.source != JudgementSet.Source.RATINGS:
            raise JudgementsError(f"judgement set {name!r} is made of {judgement_set.source}; give the ratings another")
        removed = _remove_others(judgement_set, ratings) if replace else 0
        created, updated = _write(judgement_set, ratings)
    unknown = sorted(find_unknown({rating.sku for rating in ratings}))
    queries = len({rating.query for rating in ratings})
    return ImportedRatings(
        name, queries, len(ratings), created, updated, removed, len(unknown), tuple(unknown[:SHOWN_SKUS])
    )


def _write(judgement_set: JudgementSet, ratings: Sequence[Rating]) -> tuple[int, int]:
    """Write ratings that are new or changed; return how many of each."""
    created = updated = 0
    for batch in in_batches(sorted(ratings, key=lambda rating: (rating.query, rating.sku))):
        stored = judgement_set.judgements.filter(query__in={rating.query for rating in batch})
        grades = {(query, sku): grade for query, sku, grade in stored.values_list("query", "sku", "grade")}
        new = [rating for rating in batch if (rating.query, rating.sku) not in grades]
        changed = [rating for rating in batch if grades.get((rating.query, rating.sku), rating.grade) != rating.grade]
        Judgement.objects.bulk_create(
            [_to_judgement(judgement_set, rating) for rating in [*new, *changed]],
            batch_size=BATCH,
            update_conflicts=True,
            unique_fields=["judgement_set", "query", "sku"],
            update_fields=["grade"],
        )
        created, updated = created + len(new), updated + len(changed)
    return created, updated


def _to_judgement(judgement_set: JudgementSet, rating: Rating) -> Judgement:
    return Judgement(judgement_set=judgement_set, query=rating.query, sku=rating.sku, grade=rating.grade)


def _remove_others(judgement_set: JudgementSet, ratings: Sequence[Rating]) -> int:
    kept = {(rating.query, rating.sku) for rating in ratings}
    rows = judgement_set.judgements.values_list("pk", "query", "sku").iterator()
    others = [pk for pk, query, sku in rows if (query, sku) not in kept]
    for batch in in_batches(others):
        Judgement.objects.filter(pk__in=batch).delete()
    return len(others)


def in_batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items in parts that one query of the database takes."""
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def find_unknown(skus: Iterable[str]) -> set[str]:
    """Return those that no product of the catalogue has, on sale or not."""
    unknown = set(skus)
    for batch in in_batches(sorted(unknown)):
        unknown.difference_update(Product.objects.filter(sku__in=batch).values_list("sku", flat=True))
    return unknown


def write_ratings(judgement_set: JudgementSet) -> Iterator[str]:
    """Yield the lines of a file that `read_ratings` reads back, by query, the best product first."""
    yield "\t".join(HEADER) + "\n"
    rows = judgement_set.judgements.order_by("query", "-grade", "sku").values_list(*HEADER)
    for query, sku, grade in rows.iterator():
        # No tab or line end within a value: what shoppers typed may have any.
        yield f"{' '.join(query.split())}\t{' '.join(sku.split())}\t{grade!r}\n"
