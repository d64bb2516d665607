"""Completing half-typed queries, from the index, the category tree and past queries."""

from datetime import timedelta

import pytest
from django.db import DatabaseError
from django.utils import timezone

from retrieval import indexing, past_queries
from retrieval.models import Asker, PastQuery, index
from retrieval.suggest import Suggestions, suggest
from tests.factories import make_product


@pytest.fixture
def indexed(shop):
    make_product("Wireless keyboard", category="Office > Keyboards", price_cents=4500, currency="USD")
    make_product("Gaming keyboard with lights", category="Office > Keyboards")
    make_product("Key ring", category="Accessories > Key rings")
    make_product("Desk lamp", category="Home > Lamps")
    indexing.rebuild()


def name_visitors(count):
    return [f"visitor {number}" for number in range(count)]


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
    PastQuery.objects.record("lamp with shade", 3, name_visitors(3))
    found = suggest("lamp")
    assert (found.products, found.categories[0].path, found.queries) == ((), "home/lamps", ("lamp with shade",))


def test_past_queries_that_found_something_come_back_most_asked_first(shop):
    for text, total, times in (("mug red", 4, 3), ("mug blue", 2, 5), ("mug plaid", 0, 9)):
        PastQuery.objects.record(text, total, name_visitors(times))
    assert suggest("Mug").queries == ("mug blue", "mug red")


def test_what_fewer_than_three_visitors_asked_is_suggested_to_nobody(shop):
    for _ in range(5):
        for client_id in ("ada", "bob"):
            past_queries.record_query("mug for ada lovelace", 3, client_id)
            past_queries.flush_recorded()
    assert (PastQuery.objects.get().count, suggest("mug").queries) == (2, ())
    past_queries.record_query("mug for ada lovelace", 3, "cleo")
    past_queries.flush_recorded()
    assert suggest("mug").queries == ("mug for ada lovelace",)


def test_who_is_forgotten_takes_along_what_nobody_else_asked(shop):
    PastQuery.objects.record("mug for ada", 3, ["ada"])
    PastQuery.objects.record("red mug", 3, ["ada", "bob", "cleo"])
    past_queries.record_query("blue mug", 3, "ada")
    assert past_queries.forget_visitor("ada") == 2
    assert list(PastQuery.objects.values_list("text", "count")) == [("red mug", 2)]
    assert set(Asker.objects.values_list("client_id", flat=True)) == {"bob", "cleo"}
    assert past_queries.forget_visitor("nobody") == 0


def test_what_nobody_asks_any_more_is_forgotten(shop, monkeypatch):
    monkeypatch.setattr(index, "FORGOTTEN_AT_ONCE", 1)
    for text, client_ids in (("red mug", ["ada", "bob"]), ("blue mug", ["ada"]), ("old mug", ["cleo"])):
        PastQuery.objects.record(text, 3, client_ids)
    Asker.objects.update(last_at=timezone.now() - timedelta(days=2))
    PastQuery.objects.record("red mug", 3, ["bob"])
    assert past_queries.prune(timezone.now() - timedelta(days=1)) == 2
    assert list(PastQuery.objects.values_list("text", "count")) == [("red mug", 1)]


def test_searches_are_counted_together_and_written_later(shop):
    for text in ("Red  MUG", "red mug", "x" * 101, ""):
        past_queries.record_query(text, 7, "ada")
    past_queries.record_query("red mug", 7, "bob")
    assert not PastQuery.objects.exists()
    past_queries.flush_recorded()
    past_queries.record_query("red mug", 5, "cleo")
    past_queries.flush_recorded()
    assert list(PastQuery.objects.values_list("text", "count", "total")) == [("red mug", 3, 5)]


def test_a_database_that_refuses_costs_no_search(shop, monkeypatch, caplog):
    def refuse(*args: object) -> None:
        raise DatabaseError("database is locked")

    monkeypatch.setattr(type(PastQuery.objects.all()), "record", refuse)
    past_queries.record_query("mug", 1, "ada")
    past_queries.flush_recorded()
    assert "past queries were not counted: database is locked" in caplog.text
