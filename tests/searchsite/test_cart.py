"""The cart: what it holds, and what its lines cost when they are looked at again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import RequestFactory

from catalog.models import Product
from searchsite.bill import make_bill
from searchsite.cart import COUNT_COOKIE, MAX_LINES, Cart, CartFull, Line, read_count
from searchsite.tasks import clear_sessions


def make_line(sku: str = "A", quantity: int = 1, *, currency: str = "USD", reference: str = "") -> Line:
    return Line(sku, f"Mug {sku}", quantity, price_cents=1000, currency=currency, reference=reference)


def make_product(sku: str = "A", **facts: Any) -> Product:
    return Product(**{"sku": sku, "title": f"Mug {sku}", "price_cents": 1000, "currency": "USD"} | facts)


@pytest.fixture
def session() -> SessionStore:
    return SessionStore()


@pytest.fixture
def cart(session) -> Cart:
    return Cart(session)


def list_quantities(cart: Cart) -> dict[str, int]:
    return {line.sku: line.quantity for line in cart.lines}


def test_what_is_added_again_adds_up_to_99(cart):
    cart.add(make_line("A", 2))
    cart.add(make_line("B"))
    cart.add(make_line("A", 98))
    assert list_quantities(cart) == {"A": 99, "B": 1}
    assert cart.count == 100


def test_the_newest_search_that_led_to_a_product_counts(cart):
    cart.add(make_line(reference="first"))
    cart.add(make_line(reference=""))
    assert cart.lines[0].reference == "first"
    cart.add(make_line(reference="second"))
    assert cart.lines[0].reference == "second"


def test_the_cart_is_the_same_in_the_next_request(cart, session):
    cart.add(make_line("A", 2, reference="signed"))
    cart.remove("A")
    cart.add(make_line("B", 3))
    cart.remove("B")
    session._session_cache = json.loads(json.dumps(session._session_cache))  # as the database keeps it
    again = Cart(session)
    assert again.lines == ()
    again.undo()
    assert list_quantities(again) == {"B": 3}


def test_undo_puts_a_line_back_where_it_was(cart):
    for sku in "ABC":
        cart.add(make_line(sku))
    cart.remove("B")
    assert list_quantities(cart) == {"A": 1, "C": 1}
    cart.remove("B")  # a second click
    cart.undo()
    assert list(list_quantities(cart)) == ["A", "B", "C"]
    cart.undo()
    assert cart.count == 3


def test_after_another_change_there_is_nothing_to_undo(cart):
    cart.add(make_line("A"))
    cart.remove("A")
    cart.add(make_line("B"))
    cart.undo()
    assert list_quantities(cart) == {"B": 1}


def test_a_quantity_of_none_removes_the_line(cart):
    cart.add(make_line("A", 2))
    cart.change("A", 5)
    cart.change("other", 5)
    assert list_quantities(cart) == {"A": 5}
    cart.change("A", 0)
    assert cart.lines == ()
    assert cart.removed is not None


def test_a_full_cart_says_so_and_still_takes_more_of_the_same(cart):
    for number in range(MAX_LINES):
        cart.add(make_line(str(number)))
    with pytest.raises(CartFull, match="holds 100 different products"):
        cart.add(make_line("one more"))
    cart.add(make_line("0"))
    assert cart.count == MAX_LINES + 1


def test_the_browser_keeps_the_count(cart):
    request, response = RequestFactory().get("/"), HttpResponse()
    cart.add(make_line("A", 7))
    cart.show_count(request, response)
    request.COOKIES[COUNT_COOKIE] = response.cookies[COUNT_COOKIE].value
    assert read_count(request) == 7
    unchanged = HttpResponse()
    cart.show_count(request, unchanged)
    assert not unchanged.cookies
    cart.clear()
    cart.show_count(request, response)
    assert response.cookies[COUNT_COOKIE]["max-age"] == 0


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "99999", "²", "<b>"])
def test_a_count_that_is_none_is_not_shown(text):
    request = RequestFactory().get("/")
    request.COOKIES[COUNT_COOKIE] = text
    assert read_count(request) == 0


def test_a_bill_adds_up_each_currency_for_itself():
    lines = [make_line("A", 2), make_line("B", 1, currency="EUR"), make_line("C", 1)]
    products = [make_product("A"), make_product("B", currency="EUR"), make_product("C", price_cents=550)]
    assert make_bill(lines, products).totals == ["$25.50", "€10.00"]


@pytest.mark.parametrize(
    ("facts", "problem", "enough"),
    [
        ({"active": False}, "No longer sold.", 0),
        ({"price_cents": None}, "Its price is on request: it cannot be ordered here.", 0),
        ({"stock": 0}, "Out of stock.", 0),
        ({"stock": 2}, "Only 2 left.", 2),
        ({"stock": 3}, "", 0),
        ({"stock": None}, "", 0),
    ],
)
def test_what_cannot_be_bought_is_told_and_not_counted(facts, problem, enough):
    bill = make_bill([make_line("A", 3)], [make_product(**facts)])
    assert (bill.offers[0].problem, bill.offers[0].enough) == (problem, enough)
    assert bill.is_payable == (not problem)
    assert bill.totals == ([] if problem else ["$30.00"])


def test_a_product_that_is_gone_is_told_by_its_old_name():
    (offer,) = make_bill([make_line("A")], []).offers
    assert (offer.title, offer.problem) == ("Mug A", "No longer sold.")


def test_a_new_price_is_told_beside_the_old_one():
    bill = make_bill([make_line("A")], [make_product(price_cents=1250)])
    assert bill.offers[0].news == "The price was $10.00 when you added it, it is $12.50 now."
    assert bill.totals == ["$12.50"]
    assert make_bill([make_line("A")], [make_product(currency="EUR")]).offers[0].news.endswith("it is €10.00 now.")


def test_nothing_can_be_paid_for_an_empty_cart():
    bill = make_bill([])
    assert not bill.is_payable
    assert bill.totals == []


def test_the_digest_changes_with_quantity_price_and_products():
    line, product = make_line("A", 2), make_product()
    digests = {
        make_bill([line], [product]).digest,
        make_bill([make_line("A", 1)], [product]).digest,
        make_bill([line], [make_product(price_cents=1)]).digest,
        make_bill([line], [make_product(currency="EUR")]).digest,
        make_bill([line, make_line("B")], [product]).digest,
    }
    assert len(digests) == 5
    assert make_bill([line], [make_product(stock=7)]).digest in digests


def test_carts_that_have_expired_are_cleared_away(db):
    for age_s in (-1, 60):
        session = SessionStore()
        Cart(session).add(make_line())
        session.set_expiry(age_s)
        session.save()
    clear_sessions()
    assert Session.objects.count() == 1
