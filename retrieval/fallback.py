"""Search straight from the database, for when no index can answer: fewer products found, none of them wrong."""

from __future__ import annotations

import json
from functools import reduce
from operator import and_, or_
from time import perf_counter
from typing import Any

from django.db.models import F, Func, OrderBy, Q, TextField, Value

from catalog.models import Product, ProductQuerySet
from retrieval.engine.query import parse_query
from retrieval.engine.text import STOPWORDS
from retrieval.engine.types import Filters, Hit, Query, Results, Sort

NOTICE = "Search is running in a reduced mode: only exact words are matched, and there are no filters to choose from."
MAX_WORDS = 10
ORDERS: dict[Sort, tuple[OrderBy, ...]] = {
    Sort.RELEVANCE: (F("popularity").desc(), F("pk").asc()),
    Sort.PRICE_ASC: (F("price_cents").asc(nulls_last=True), F("pk").asc()),
    Sort.PRICE_DESC: (F("price_cents").desc(nulls_last=True), F("pk").asc()),
    Sort.RATING: (F("rating").desc(nulls_last=True), F("pk").asc()),
    Sort.NEWEST: (F("released").desc(nulls_last=True), F("pk").asc()),
}


class AttributeText(Func):
    """The text of the attribute of exactly this name: a key transform takes '5' and '-1' for places in a list."""

    template, arg_joiner = "(%(expressions)s)", " ->> "
    output_field = TextField()

    def __init__(self, name: str) -> None:
        super().__init__(F("attributes"), Value(name))
        self._path = f"$.{json.dumps(name)}"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        copy = self.copy()
        copy.set_source_expressions([self.get_source_expressions()[0], Value(self._path)])
        return super(AttributeText, copy).as_sql(
            compiler, connection, template="JSON_EXTRACT(%(expressions)s)", arg_joiner=", ", **context
        )


def search_database(query: Query) -> Results:
    """Return the products that have every word of the query, with a notice that this is the lesser search."""
    start = perf_counter()
    parsed = parse_query(query.text)
    words = [word for word in parsed.words if word not in STOPWORDS][:MAX_WORDS]
    products = filter_products(Product.objects.active(), query.filters)
    if words:
        products = products.filter(reduce(and_, map(_has_word, words)))
    elif parsed.text:
        products = products.none()
    first = (query.page - 1) * query.page_size
    ids = products.order_by(*ORDERS[query.sort]).values_list("pk", flat=True)[first : first + query.page_size]
    hits = tuple(Hit(product_id, 0.0) for product_id in ids)
    timings = {"total": round((perf_counter() - start) * 1000, 3)}
    return Results(hits, products.count(), (), parsed.text, notice=NOTICE, timings_ms=timings, config_name="database")


def _has_word(word: str) -> Q:
    fields = ("title", "brand", "description", "sku")
    return reduce(or_, (Q(**{f"{field}__icontains": word}) for field in fields))


def filter_products(products: ProductQuerySet, filters: Filters) -> ProductQuerySet:
    """Return the products that pass the filters, by the same rules as the index."""
    conditions = Q()
    if filters.category:
        conditions &= Q(category__path=filters.category) | Q(category__path__startswith=f"{filters.category}/")
    if filters.brands:
        conditions &= reduce(or_, (Q(brand__iexact=brand) for brand in filters.brands))
    if filters.price_min_cents is not None:
        conditions &= Q(price_cents__gte=filters.price_min_cents)
    if filters.price_max_cents is not None:
        conditions &= Q(price_cents__lte=filters.price_max_cents)
    if filters.rating_min is not None:
        conditions &= Q(rating__gte=filters.rating_min)
    if filters.in_stock:
        conditions &= Q(stock__isnull=True) | Q(stock__gt=0)
    for number, (name, values) in enumerate(filters.attributes):
        # As an alias a name can be anything: in a lookup '__' would mean something else.
        products = products.alias(**{f"attribute_{number}": AttributeText(name)})
        conditions &= Q(**{f"attribute_{number}__in": list(values)})
    return products.filter(conditions)
