"""The API's answers as plain dictionaries, in the shapes that `serializers` describes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.urls import reverse
from rest_framework.request import Request

from catalog.models import Category, Product
from catalog.money import to_major
from retrieval.documents import CategoryNames
from retrieval.engine.types import Explanation, Facet, FacetValue, Hit
from retrieval.suggest import CategorySuggestion
from searchsite.links import label_price, split_price
from searchsite.search import SearchPage


class Addresses:
    """Absolute addresses at the site that a request was sent to."""

    def __init__(self, request: Request) -> None:
        self._site = request.build_absolute_uri("/").rstrip("/")
        self._before_sku, _, self._after_sku = reverse("shop:product", args=["SKU"]).partition("SKU")

    def page_of(self, product: Product) -> str:
        return f"{self._site}{self._before_sku}{quote(product.sku, safe='')}{self._after_sku}"

    def image_of(self, product: Product) -> str:
        """Return the address of the product's picture, empty when it has none."""
        return self._site + product.image_url if product.image_url.startswith("/") else product.image_url


def describe_page(
    page: SearchPage, addresses: Addresses, *, is_explained: bool = False, has_facets: bool = True
) -> dict[str, Any]:
    """Return the answer as SearchResponseSerializer tells it."""
    query, results = page.query, page.results
    answer: dict[str, Any] = {
        "query_id": page.query_id or None,
        "query": {
            "text": query.text,
            "searched_text": results.searched_text,
            "corrected_from": results.corrected_from or None,
            "suggestion": results.suggestion or None,
        },
        "notice": results.notice or None,
        "config": results.config_name,
        "total": results.total,
        "page": query.page,
        "page_size": query.page_size,
        "page_count": page.page_count,
        "hits": [describe_hit(*shown, addresses, is_explained) for shown in page.shown],
        "timings_ms": dict(results.timings_ms),
    }
    return answer | ({"facets": list(map(describe_facet, results.facets))} if has_facets else {})


def describe_hit(
    product: Product, hit: Hit, reference: str, addresses: Addresses, is_explained: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sku": product.sku,
        "title": product.title,
        "brand": product.brand,
        "price": describe_price(product.price_cents, product.currency),
        "image_url": addresses.image_of(product),
        "url": addresses.page_of(product),
        "rating": product.rating,
        "rating_count": product.rating_count,
        "in_stock": product.is_in_stock,
        "category": describe_category(product.category),
        "score": round(hit.score, 6) if math.isfinite(hit.score) else 0.0,
    }
    if reference:
        found["ref"] = reference
    return found | ({"explanation": describe_explanation(hit.explanation)} if is_explained else {})


def describe_suggested(product: Product, addresses: Addresses) -> dict[str, Any]:
    return {
        "sku": product.sku,
        "title": product.title,
        "price": describe_price(product.price_cents, product.currency),
        "image_url": addresses.image_of(product),
        "url": addresses.page_of(product),
    }


def describe_explanation(explanation: Explanation) -> dict[str, float | int | None]:
    return {name: getattr(explanation, name) for name in Explanation.__slots__}


def describe_price(price_cents: int | None, currency: str) -> dict[str, Any] | None:
    if price_cents is None:
        return None
    currency = currency or settings.SEARCHSITE["CURRENCY"]
    return {"amount": f"{to_major(price_cents, currency):f}", "minor": price_cents, "currency": currency}


def describe_category(category: Category | CategorySuggestion | None) -> dict[str, str] | None:
    return None if category is None else {"name": category.name, "path": category.path}


def describe_facet(facet: Facet) -> dict[str, Any]:
    describe = DESCRIBE_VALUE.get(facet.field, _describe_value)
    return {
        "field": facet.field,
        "label": facet.label,
        "parameter": PARAMETER_OF_FACET.get(facet.field, facet.field),
        "values": list(map(describe, facet.values)),
    }


def _describe_value(one: FacetValue) -> dict[str, Any]:
    return {"value": one.value, "label": one.label, "count": one.count, "selected": one.is_selected}


def _describe_category_value(one: FacetValue) -> dict[str, Any]:
    return _describe_value(one) | {"depth": one.depth}


def _describe_price_range(one: FacetValue) -> dict[str, Any]:
    """Return a range in major units, as the filters take it; the engine counts in minor ones."""
    low, high = split_price(one.value)
    return {
        "value": f"{low}-{high}",
        "label": label_price(one.value),
        "count": one.count,
        "selected": one.is_selected,
        "price_min": low,
        "price_max": high or None,
    }


PARAMETER_OF_FACET = {"stock": "in_stock", "price": None}  # the others are named as their facet is
DESCRIBE_VALUE = {"category": _describe_category_value, "price": _describe_price_range}


def describe_products(products: Sequence[Product], addresses: Addresses) -> list[dict[str, Any]]:
    """Return the products as they are imported, in the shape of ProductSerializer."""
    categories = CategoryNames() if any(product.category_id for product in products) else None
    return [
        _describe_product(product, categories.names(product.category_id) if categories else ())
        | {"url": addresses.page_of(product), "created_at": product.created_at, "updated_at": product.updated_at}
        for product in products
    ]


def _describe_product(product: Product, category: tuple[str, ...]) -> dict[str, Any]:
    price = describe_price(product.price_cents, product.currency)
    return {
        "sku": product.sku,
        "title": product.title,
        "description": product.description,
        "brand": product.brand,
        "category": list(category),
        "price": price and price["amount"],
        "currency": product.currency,
        "image_url": product.image_url,
        "gtin": product.gtin,
        "attributes": product.attributes,
        "rating": product.rating,
        "rating_count": product.rating_count,
        "stock": product.stock,
        "popularity": product.popularity,
        "released": product.released,
        "active": product.active,
    }
