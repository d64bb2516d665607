"""What the front page shows, chosen from what sells best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from catalog.models import Category, Product
from retrieval.engine.types import Query
from searchsite.search import search_index

LOOKED_AT = 400  # of the most popular products
MAX_DEPARTMENTS, MAX_FAVOURITES, MAX_PICTURES = 24, 12, 3


@dataclass(frozen=True, slots=True)
class Department:
    name: str
    path: str
    count: int | None  # products in it, None when not known
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Front:
    departments: list[Department]
    favourites: list[Product]


@dataclass(frozen=True, slots=True)
class Popular:
    """As much of a popular product as it takes to choose."""

    product_id: int
    path: str
    image_url: str

    @property
    def department(self) -> str:
        return self.path.partition("/")[0]


def build_front() -> Front:
    """Return departments with pictures and counts, and popular products of many kinds."""
    results = search_index(Query("", page_size=LOOKED_AT))
    popular = _load([hit.product_id for hit in results.hits])
    counts = {
        value.value: value.count for facet in results.facets if facet.field == "category" for value in facet.values
    }
    favourites = Product.objects.in_order(_choose_favourites(popular))
    return Front(_list_departments(popular, counts, is_counted=bool(results.facets)), favourites)


def _load(product_ids: list[int]) -> list[Popular]:
    rows = Product.objects.active().filter(pk__in=product_ids).values_list("pk", "category__path", "image_url")
    found = {product_id: Popular(product_id, path or "", image_url) for product_id, path, image_url in rows}
    return [found[product_id] for product_id in product_ids if product_id in found]


def _choose_favourites(popular: Iterable[Popular]) -> list[int]:
    """Return the best of each category before the second best of any."""
    places: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for product in popular:
        places[product.path] = places.get(product.path, 0) + 1
        ranked.append((places[product.path], product.product_id))
    ranked.sort(key=lambda item: item[0])  # equals stay in their order
    return [product_id for _, product_id in ranked[:MAX_FAVOURITES]]


def _list_departments(popular: list[Popular], counts: dict[str, int], is_counted: bool) -> list[Department]:
    """Return the roots of the category tree, without those known to be empty."""
    rows = Category.objects.filter(parent=None).values_list("name", "path")
    departments = [Department(name, path, counts.get(path), _pick_pictures(popular, path)) for name, path in rows]
    return [one for one in departments if one.count or not is_counted][:MAX_DEPARTMENTS]


def _pick_pictures(popular: list[Popular], department: str) -> tuple[str, ...]:
    """Return pictures of the department's favourites, each from another category."""
    pictures: dict[str, str] = {}
    for product in popular:
        if product.department == department and product.image_url:
            pictures.setdefault(product.path, product.image_url)
    return tuple(list(pictures.values())[:MAX_PICTURES])
