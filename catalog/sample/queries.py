"""Queries of the sample shop with graded truth, which follows from what products are, never from their texts.

Grades: 3 exactly what is asked for; 2 a good substitute; 1 related, such as an accessory; 0, left out, wrong.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from catalog.sample.asking import MAKERS, Shelves, Wish
from catalog.sample.shop import SampleProduct, make_products
from catalog.sample.taxonomy import Taxonomy, load_taxonomy

EXACT, SUBSTITUTE, RELATED = 3, 2, 1
TRIES = 60  # for a query not asked before, before its kind counts as used up
ABSENT_EVERY = 25


@dataclass(frozen=True, slots=True)
class SampleQuery:
    query_id: str
    text: str
    kind: str
    grades: dict[str, int] = field(default_factory=dict)  # by SKU, best first


def grade(product: SampleProduct, wish: Wish, taxonomy: Taxonomy) -> int:
    """Return how well the product answers the wish, 0 to 3."""
    if wish.sku:
        is_variant = product.article == wish.sku.rpartition("-")[0]
        return EXACT if product.sku == wish.sku else SUBSTITUTE if is_variant else 0
    if wish.model:
        return _grade_model(product, wish)
    missed = wish.count_missed(product)
    if product.kind.slug in wish.kinds:
        return _grade_wanted(product, wish, missed)
    wanted = [taxonomy.types[slug] for slug in wish.kinds]
    if any(product.kind.slug in kind.substitutes for kind in wanted):
        return SUBSTITUTE if missed == 0 else RELATED
    if any(product.kind.slug in kind.companions for kind in wanted):
        return RELATED
    # A laptop for one who asks for a sleeve is not what is meant, but near it.
    return RELATED if not wish.kinds.isdisjoint(product.kind.companions) else 0


def _grade_wanted(product: SampleProduct, wish: Wish, missed: int) -> int:
    """Return the grade of a product of a wanted kind that misses so many conditions, 1 to 3."""
    if not wish.is_fitted_by(product):
        return RELATED
    best = SUBSTITUTE if product.kind.slug in wish.supplies else EXACT
    return max(best - missed, RELATED)


def _grade_model(product: SampleProduct, wish: Wish) -> int:
    """One who names a model wants that one; others of the same brand and kind are related."""
    if product.kind.slug not in wish.kinds or product.brand != wish.brand:
        return 0
    return EXACT if product.model == wish.model else RELATED


def generate_queries(products: int, seed: int, limit: int = 600) -> list[SampleQuery]:
    """Return at most `limit` queries for the sample shop of so many products and this seed, kinds evenly mixed."""
    taxonomy = load_taxonomy()
    return make_queries(list(make_products(products, seed)), taxonomy, random.Random(f"queries-{seed}"), limit)


def make_queries(
    products: Sequence[SampleProduct], taxonomy: Taxonomy, rng: random.Random, limit: int
) -> list[SampleQuery]:
    """Return different queries with at least one exact answer, and a few that have none in the shop."""
    shelves: Shelves = defaultdict(list)
    for product in products:
        shelves[product.kind.slug].append(product)
    found: dict[str, SampleQuery] = {}
    for text, name, wish in _ask_in_turn(shelves, taxonomy, rng):
        if len(found) >= limit:
            break
        grades = grade_all(shelves, wish, taxonomy) if wish else {}
        if text not in found and (wish is None or EXACT in grades.values()):
            found[text] = SampleQuery(f"q{len(found) + 1:04d}", text, name, grades)
    return list(found.values())


def _ask_in_turn(shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Iterator[tuple[str, str, Wish | None]]:
    """Yield (text, name of its kind, wish), each kind in turn until it has nothing new to ask."""
    absent = rng.sample(taxonomy.absent, len(taxonomy.absent))
    asked: set[str] = set()
    makers, kinds = dict(MAKERS) if shelves else {}, list(shelves)
    while makers:
        for name, make in list(makers.items()):
            made = (make(rng.choice(shelves[rng.choice(kinds)]), shelves, taxonomy, rng) for _ in range(TRIES))
            text, wish = next((pair for pair in made if pair and pair[0] not in asked), ("", None))
            if wish is None:
                del makers[name]
                continue
            asked.add(text)
            yield text, name, wish
            if absent and len(asked) % ABSENT_EVERY == 0:
                yield absent.pop(), "absent", None


def grade_all(shelves: Shelves, wish: Wish, taxonomy: Taxonomy) -> dict[str, int]:
    """Return the grade of every product that has one above 0, best first, by SKU."""
    near = (product for slug in _near_kinds(wish, taxonomy) for product in shelves.get(slug, ()))
    grades = {product.sku: grade(product, wish, taxonomy) for product in near}
    return dict(sorted(((sku, value) for sku, value in grades.items() if value), key=lambda pair: -pair[1]))


def _near_kinds(wish: Wish, taxonomy: Taxonomy) -> Iterable[str]:
    """Return the kinds whose products can have a grade above 0, without repeats."""
    near = list(wish.kinds)
    for slug in wish.kinds:
        near += (*taxonomy.types[slug].substitutes, *taxonomy.types[slug].companions)
    near += (slug for slug, kind in taxonomy.types.items() if not wish.kinds.isdisjoint(kind.companions))
    return dict.fromkeys(sorted(near))
