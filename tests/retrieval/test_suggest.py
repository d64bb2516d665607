"""Completing half-typed queries, from the index, the category tree and past queries."""

import pytest
from django.db import DatabaseError

from retrieval import indexing, past_queries
from retrieval.models import PastQuery
from retrieval.suggest import Suggestions, suggest
from tests.factories import make_product


@pytest.fixture
def indexed(shop):
    make_product("Wireless keyboard", category="Office > Keyboards", price_cents=4500, currency="USD")
    make_product("Gaming keyboard with lights", category="Office > Keyboards")
    make_product("Key ring", category="Accessories > Key rings")
    make_product("Desk lamp", category="Home > Lamps")
    indexing.rebuild()


def titles(text):
    return {product.title for product in suggest(text).products}


def test_a_half_typed_word_finds_products_that_have_it(indexed):
    assert titles("keyb") == {"Wireless keyboard", "Gaming keyboard with lights"}
    assert titles("wireless k") == {"Wireless keyboard"}
    assert {category.path for category in suggest("key").categories} == {"office/keyboards", "accessories/key-rings"}


@pytest.mark.parametrize("text", ["", "   ", "???", "😀", "\x00", '"', "a" * 5000, "%_", "' OR 1=1 --"])
def test_hostile_beginnings_get_an_answer(indexed, text):
    assert isinstance(suggest(text), Suggestions)


def test_without_an_index_there_are_categories_and_past_queries(shop):
    make_product(category="Home > Lamps")
    PastQuery.objects.record("lamp with shade", total=3)
    found = suggest("lamp")
    assert (found.products, found.categories[0].path, found.queries) == ((), "home/lamps", ("lamp with shade",))


def test_past_queries_that_found_something_come_back_most_asked_first(shop):
    for text, total, times in (("mug red", 4, 1), ("mug blue", 2, 5), ("mug plaid", 0, 9)):
        PastQuery.objects.record(text, total, times)
    assert suggest("Mug").queries == ("mug blue", "mug red")


def test_searches_are_counted_together_and_written_later(shop):
    for text in ("Red  MUG", "red mug", "x" * 101, ""):
        past_queries.record_query(text, total=7)
    assert not PastQuery.objects.exists()
    past_queries.flush_recorded()
    past_queries.record_query("red mug", total=5)
    past_queries.flush_recorded()
    assert list(PastQuery.objects.values_list("text", "count", "total")) == [("red mug", 3, 5)]


def test_a_database_that_refuses_costs_no_search(shop, monkeypatch, caplog):
    def refuse(*args: object) -> None:
        raise DatabaseError("database is locked")

    monkeypatch.setattr(type(PastQuery.objects.all()), "record", refuse)
    past_queries.record_query("mug", total=1)
    past_queries.flush_recorded()
    assert "past queries were not counted: database is locked" in caplog.text
