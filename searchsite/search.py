"""One search from question to products on the page: what the page, the API and the command line share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings

from catalog.models import Product
from catalog.money import to_major
from experiments.events import is_simulating, record_search
from experiments.mixed import is_mixable, search_mixed
from experiments.references import Reference, sign
from experiments.serving import Choice, choose
from experiments.visitors import ShopVisitor
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.text import normalize
from retrieval.engine.types import EngineError, Filters, Hit, Query, Results, Sort
from retrieval.fallback import search_database
from retrieval.past_queries import record_query
from retrieval.setup import get_pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchPage:
    """One page of products with the hits they come from, in the same order, and all that is known of the search.

    `query_id` names the search in the event log and `references`, one a product, sign its links; both are empty for a
    search that is not recorded.
    """

    query: Query
    results: Results
    found: tuple[tuple[Product, Hit], ...]
    query_id: str = ""
    references: tuple[str, ...] = ()

    @property
    def products(self) -> list[Product]:
        return [product for product, _ in self.found]

    @property
    def shown(self) -> Iterator[tuple[Product, Hit, str]]:
        """Yield each product with its hit and signed reference, '' where there is none."""
        references = self.references or ("",) * len(self.found)
        return ((product, hit, reference) for (product, hit), reference in zip(self.found, references, strict=True))

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
        return find_first_rank(self.query)


def find_first_rank(query: Query) -> int:
    """Return the position of the page's first product, from 1 over all pages."""
    return (query.page - 1) * query.page_size + 1


def _to_text(cents: int | None) -> str:
    return "" if cents is None else f"{to_major(cents, settings.SEARCHSITE['CURRENCY']):f}"


def search_products(
    query: Query,
    visitor: ShopVisitor | None = None,
    config_name: str | None = None,
    forced: Mapping[str, str] | None = None,
) -> SearchPage:
    """Return one page of products for `query`; of a visitor who may be, it is recorded and remembered for suggestions.

    A visitor takes part in the experiments that run, unless a config is asked for; `forced` are variants that staff
    want to see, by experiment. When no index can answer, products are searched in the database and the results carry
    a notice.
    """
    choice = choose_ranking(query, visitor, config_name, forced)
    results, teams = search_as_chosen(query, choice, visitor)
    products = {product.pk: product for product in Product.objects.in_order([hit.product_id for hit in results.hits])}
    if visitor and visitor.is_logged and query.page == 1 and not results.notice and not is_simulating():
        record_query(results.searched_text, results.total, visitor.id)
    found = tuple((products[hit.product_id], hit) for hit in results.hits if hit.product_id in products)
    if visitor is None:
        return SearchPage(query, results, found)
    skus = [product.sku for product, _ in found]
    sides = {product.sku: teams[product.pk] for product, _ in found if product.pk in teams}
    query_id = record_search(visitor, query, results, skus, variant=choice.label, teams=sides)
    return SearchPage(query, results, found, query_id, sign_all(query_id, query, skus, visitor))


def choose_ranking(
    query: Query, visitor: ShopVisitor | None, config_name: str | None, forced: Mapping[str, str] | None
) -> Choice:
    """Return how to search: as the config named, or as the visitor's variants do.

    Who is not recorded is in none but those forced.
    """
    if config_name:
        return Choice(get_config(config_name))
    return choose(visitor, query.text, forced, takes_part=visitor is not None and visitor.is_logged)


def search_as_chosen(query: Query, choice: Choice, visitor: ShopVisitor | None) -> tuple[Results, dict[int, str]]:
    """Return the results, and of an interleaved page the team of each product."""
    if choice.rival is None or visitor is None or not is_mixable(query):
        return search_index(query, choice.config), {}
    try:
        rankings = get_pipeline(choice.config), get_pipeline(choice.rival)
        return search_mixed(query, *rankings, seed=f"{visitor.id} {normalize(query.text)}")
    except EngineError as error:
        logger.error("not interleaved: %s", error)
    except Exception:
        logger.exception("not interleaved")
    return search_index(query, choice.config), {}


def sign_all(query_id: str, query: Query, skus: Sequence[str], visitor: ShopVisitor) -> tuple[str, ...]:
    """Return the reference of each product on a page of results; none for a search that is not recorded."""
    if not query_id:
        return ()
    is_narrowed = query.filters != Filters() or query.sort is not Sort.RELEVANCE
    numbered = enumerate(skus, find_first_rank(query))
    return tuple(sign(Reference(query_id, sku, position, is_narrowed), visitor) for position, sku in numbered)


def search_index(query: Query, config: SearchConfig | None = None) -> Results:
    """Return the results without their products, from the database when no index can answer.

    So it is with what nobody expects of an engine or a model, too: the shopper gets an answer, the log the traceback,
    and the guardrail of an experiment counts it.
    """
    try:
        return get_pipeline(config).search(query)
    except EngineError as error:
        logger.error("searching the database instead: %s", error)
    except Exception:
        logger.exception("searching the database instead")
    return search_database(query)
