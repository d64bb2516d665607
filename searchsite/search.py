"""One search from question to products on the page: what the page, the API and the command line share."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.conf import settings

from catalog.models import Product
from catalog.money import to_major
from retrieval.engine.types import EngineError, Hit, Query, Results
from retrieval.fallback import search_database
from retrieval.past_queries import record_query
from retrieval.setup import get_pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchPage:
    """One page of products with the hits they come from, in the same order, and all that is known of the search."""

    query: Query
    results: Results
    found: tuple[tuple[Product, Hit], ...]

    @property
    def products(self) -> list[Product]:
        return [product for product, _ in self.found]

    @property
    def page_count(self) -> int:
        return -(-self.results.total // self.query.page_size)

    @property
    def price_min(self) -> str:
        return _to_text(self.query.filters.price_min_cents)

    @property
    def price_max(self) -> str:
        return _to_text(self.query.filters.price_max_cents)

    @property
    def first_rank(self) -> int:
        return (self.query.page - 1) * self.query.page_size + 1


def _to_text(cents: int | None) -> str:
    return "" if cents is None else f"{to_major(cents, settings.SEARCHSITE['CURRENCY']):f}"


def search_products(query: Query, config_name: str | None = None) -> SearchPage:
    """Return one page of products for `query`; the search is remembered for suggestions.

    When no index can answer, products are searched in the database and the results carry a notice.
    """
    results = search_index(query, config_name)
    products = {product.pk: product for product in Product.objects.in_order([hit.product_id for hit in results.hits])}
    if query.page == 1 and not results.notice:
        record_query(results.searched_text, results.total)
    found = tuple((products[hit.product_id], hit) for hit in results.hits if hit.product_id in products)
    return SearchPage(query, results, found)


def search_index(query: Query, config_name: str | None = None) -> Results:
    """Return the results without their products, from the database when no index can answer."""
    try:
        return get_pipeline(config_name).search(query)
    except EngineError as error:
        logger.error("searching the database instead: %s", error)
        return search_database(query)
