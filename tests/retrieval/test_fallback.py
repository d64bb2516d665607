"""The lesser search, straight from the database."""

from datetime import date

import pytest

from retrieval.engine.types import Filters, Query, Sort
from retrieval.fallback import NOTICE, search_database
from tests.factories import make_product


@pytest.fixture
def products(db):
    make_product("Red ceramic mug", sku="A1", brand="Potta", price_cents=900, rating=4.5, popularity=1,
                 category="Kitchen > Mugs", attributes={"colour": "Red"}, released=date(2024, 1, 1))  # fmt: skip
    make_product("Blue ceramic mug", sku="A2", brand="Potta", price_cents=1100, stock=0, popularity=5,
                 category="Kitchen > Mugs", attributes={"colour": "Blue"}, released=date(2025, 1, 1))  # fmt: skip
    make_product("Mug rack", sku="B1", brand="Wander", category="Kitchen > Racks", popularity=3)
    make_product("Old mug", sku="C1", active=False)


def skus(query):
    from catalog.models import Product

    return [
        product.sku for product in Product.objects.in_order([hit.product_id for hit in search_database(query).hits])
    ]


def test_finds_products_with_every_word_and_says_it_is_the_lesser_search(products):
    results = search_database(Query("the ceramic mug"))
    assert (results.total, results.notice, results.config_name) == (2, NOTICE, "database")
    assert skus(Query("mug")) == ["A2", "B1", "A1"]
    assert skus(Query("a1")) == ["A1"]
    assert skus(Query("mug sofa")) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(category="kitchen"), ["A2", "B1", "A1"]),
        (Filters(category="kitchen/mugs"), ["A2", "A1"]),
        (Filters(brands=("potta",)), ["A2", "A1"]),
        (Filters(price_min_cents=1000), ["A2"]),
        (Filters(price_max_cents=1000), ["A1"]),
        (Filters(rating_min=4), ["A1"]),
        (Filters(in_stock=True), ["B1", "A1"]),
        (Filters(attributes=(("colour", ("Red", "Green")),)), ["A1"]),
        (Filters(attributes=(("colour__contains", ("Red",)),)), []),
        (Filters(attributes=(('a"b%', ("Red",)),)), []),
    ],
)
def test_filters(products, filters, expected):
    assert skus(Query("", filters)) == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.PRICE_ASC, ["A1", "A2", "B1"]),
        (Sort.PRICE_DESC, ["A2", "A1", "B1"]),
        (Sort.RATING, ["A1", "A2", "B1"]),
        (Sort.NEWEST, ["A2", "A1", "B1"]),
    ],
)
def test_sorts_put_unknown_values_last(products, sort, expected):
    assert skus(Query("mug", sort=sort)) == expected


def test_pages(products):
    assert [skus(Query("mug", page=page, page_size=2)) for page in (1, 2, 3)] == [["A2", "B1"], ["A1"], []]


@pytest.mark.parametrize("text", ["???", "😀", "'; DROP TABLE x; --", "%", "_", "a" * 10_000, "\x00", "w " * 300])
def test_hostile_queries_get_an_answer(products, text):
    assert search_database(Query(text)).total >= 0
