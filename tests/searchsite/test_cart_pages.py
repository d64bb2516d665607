"""Buying through the pages as a browser without JavaScript does."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from catalog.models import Product
from experiments.events import flush_recorded
from experiments.models import Event, Reason, Refusal
from searchsite.attribution import ADD_LASTS_S
from searchsite.forms_checkout import make_token
from searchsite.models import Order
from searchsite.templatetags.shop import product_url
from tests.factories import make_product

CART, CHECKOUT = "/cart/", "/checkout/"
pytestmark = pytest.mark.django_db


def get_html(client: Client, url: str, *, status: int = 200) -> str:
    response = client.get(url)
    assert response.status_code == status, response.content[:500]
    return unescape(response.content.decode())


def post(client: Client, url: str, *, status: int = 200, **data: Any) -> str:
    """Return the page that a form leads to."""
    response = client.post(url, data, follow=True)
    assert response.status_code == status, response.content[:500]
    return unescape(response.content.decode())


def add(client: Client, product: Product, quantity: object = 1, *, status: int = 200, **data: Any) -> str:
    return post(client, "/cart/add/", sku=product.sku, quantity=quantity, status=status, **data)


def order(client: Client, **data: Any) -> str:
    return post(client, CHECKOUT, **read_hidden(get_html(client, CHECKOUT)) | {"name": "Ada"} | data)


def read_hidden(html: str) -> dict[str, Any]:
    return dict(re.findall(r'name="(token|agreed)" value="([^"]*)"', html))


def count_pieces(html: str) -> int:
    found = re.search(r'class="chosen">(\d+)<span class="unseen"> piece', html)
    return int(found[1]) if found else 0


@pytest.fixture
def mug() -> Product:
    return make_product("Red <mug>", price_cents=1000, currency="USD", stock=5)


def test_from_search_to_confirmation_without_javascript(client, filled, django_capture_on_commit_callbacks):
    results = get_html(client, "/search/?q=ceramic+mug")
    address = re.search(r'class="card">\s*<a href="([^"]+)"', results)
    assert address
    page = get_html(client, address[1])
    form = dict(re.findall(r'<input[^>]* name="(sku|ref|quantity)"[^>]* value="([^"]*)"', page))
    assert form["ref"] in address[1]
    assert count_pieces(post(client, "/cart/add/", **form | {"quantity": "2"})) == 2
    with django_capture_on_commit_callbacks(execute=True):
        thanks = order(client, email="ada@example.org")
    placed = Order.objects.get()
    for shown in (placed.number, "Thank you, Ada", "ada@example.org", placed.totals[0], 'content="noindex"'):
        assert shown in thanks
    assert count_pieces(thanks) == 0
    assert get_html(client, f"/orders/{placed.token}/") == thanks
    flush_recorded()
    added, bought = Event.objects.filter(action_name__in=["add_to_cart", "purchase"]).order_by("pk")
    assert (added.action_name, bought.action_name) == ("add_to_cart", "purchase")
    item = placed.items.get()
    assert added.query_id == bought.query_id
    assert str(bought.query_id) == item.query_id
    assert (added.object_id, bought.quantity, bought.value_cents) == (item.sku, 2, item.total_cents)
    assert (added.position, bought.position, item.position) == (1, 1, 1)


def test_an_empty_cart_leads_back_to_the_shop(client):
    html = get_html(client, CART)
    assert "The cart is empty." in html
    assert '/search/">all products' in html
    assert client.get(CHECKOUT)["Location"] == CART


def test_the_count_in_the_head_costs_no_query(client, mug, django_assert_num_queries):
    add(client, mug, 3)
    with django_assert_num_queries(0):
        assert count_pieces(get_html(client, "/nothing/", status=404)) == 3


def test_what_is_added_is_told_and_reloading_adds_nothing(client, mug):
    response = client.post("/cart/add/", {"sku": mug.sku, "quantity": 2})
    assert response.status_code == 302
    for _ in range(2):
        assert "In your cart: 2 × Red <mug>." in get_html(client, response["Location"])
    assert "no-store" in client.get(CART)["Cache-Control"]


def test_changing_removing_and_undoing(client, mug):
    add(client, mug, 2)
    html = post(client, "/cart/change/", sku=mug.sku, quantity=4)
    assert "$40.00" in html
    html = post(client, "/cart/remove/", sku=mug.sku)
    assert "Removed: 4 × Red <mug>." in html
    assert "The cart is empty." in html
    assert count_pieces(html) == 0
    html = post(client, "/cart/undo/")
    assert "In your cart: 4 × Red <mug>." in html
    assert "Removed: 4" in post(client, "/cart/change/", sku=mug.sku, quantity=0)


@pytest.mark.parametrize("quantity", ["", "0", "-1", "100", "abc", "1.5", "9" * 5000, "1\x00"])
def test_a_wrong_quantity_adds_nothing_and_says_what_is_right(client, mug, quantity):
    html = add(client, mug, quantity, status=400)
    assert "choose a whole number from 1 to 99." in html
    assert f'href="{product_url(mug)}"' in html
    assert "The cart is empty." in html


@pytest.mark.parametrize("quantity", ["", "-1", "100", "abc"])
def test_a_wrong_quantity_changes_nothing_and_stays_to_be_mended(client, mug, quantity):
    add(client, mug, 2)
    html = post(client, "/cart/change/", sku=mug.sku, quantity=quantity, status=400)
    assert "choose a whole number from 0 to 99." in html
    assert f'value="{quantity}" min="0"' in html
    assert "$20.00" in get_html(client, CART)


@pytest.mark.parametrize("sku", ["", "nothing", "a\x00b", "x" * 5000, "<script>"])
def test_what_is_not_sold_is_not_added(client, sku):
    html = post(client, "/cart/add/", sku=sku, quantity=1, status=400)
    assert "The cart is empty." in html
    assert "<script>alert" not in html
    post(client, "/cart/remove/", sku=sku)
    post(client, "/cart/undo/")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"active": False}, "No longer sold."),
        ({"price_cents": None}, "Its price is on request"),
        ({"stock": 0}, "Out of stock."),
    ],
)
def test_what_cannot_be_had_is_not_added(client, facts, reason):
    product = make_product("Blue mug", **{"price_cents": 1000, "currency": "USD"} | facts)
    assert f"“Blue mug” cannot be added. {reason}" in add(client, product, status=400)


def test_a_product_page_offers_only_what_can_be_bought(client, shop, mug):
    assert 'max="5"' in get_html(client, product_url(mug))
    on_request = get_html(client, product_url(make_product("Bell")))
    assert "The price is on request: this product cannot be ordered here." in on_request
    for html in (on_request, get_html(client, product_url(make_product(price_cents=1, stock=0)))):
        assert "Add to cart" not in html


def test_what_changed_since_it_was_added_is_told_in_cart_and_checkout(client, mug):
    add(client, mug)
    Product.objects.update(price_cents=1500)
    for page in (CART, CHECKOUT):
        html = get_html(client, page)
        assert "The price was $10.00 when you added it, it is $15.00 now." in html
        assert "$15.00" in html
    assert "$15.00" in order(client)


def test_what_ran_out_must_be_changed_before_the_checkout(client, mug):
    add(client, mug, 4)
    add(client, make_product("Pot", price_cents=700, currency="USD"))
    Product.objects.filter(pk=mug.pk).update(stock=3)
    html = get_html(client, CART)
    assert "Only 3 left." in html
    assert "Check out" not in html
    assert client.get(CHECKOUT)["Location"] == CART
    html = post(client, "/cart/change/", sku=mug.sku, quantity=3)
    assert "$37.00" in html
    assert "Check out" in html


def test_a_price_that_changes_during_the_checkout_orders_nothing(client, mug):
    add(client, mug)
    asked = read_hidden(get_html(client, CHECKOUT)) | {"name": "Ada", "email": "ada@example.org"}
    Product.objects.update(price_cents=1500)
    html = post(client, CHECKOUT, status=409, **asked)
    assert "Nothing was ordered" in html
    assert "$15.00" in html
    assert 'value="Ada"' in html
    assert 'value="ada@example.org"' in html
    assert not Order.objects.exists()
    assert "Thank you" in post(client, CHECKOUT, **asked | read_hidden(html))
    assert Order.objects.get().token == asked["token"]


def test_what_runs_out_during_the_checkout_leads_to_the_cart_and_keeps_what_was_typed(client, mug):
    add(client, mug, 2)
    asked = read_hidden(get_html(client, CHECKOUT)) | {"name": "Ada"}
    Product.objects.update(stock=1)
    html = post(client, CHECKOUT, status=409, **asked)
    assert "Nothing was ordered" in html
    assert "Only 1 left." in html
    post(client, "/cart/change/", sku=mug.sku, quantity=1)
    assert 'value="Ada"' in get_html(client, CHECKOUT)
    assert "Ada" not in str(dict(client.session))
    kept = client.cookies["customer"]
    assert (kept["max-age"], kept["path"], kept["httponly"]) == (3600, CHECKOUT, True)
    order(client)
    assert client.cookies["customer"].value == ""
    client.cookies["customer"] = kept.value
    client.post(CHECKOUT, {"token": Order.objects.get().token})
    assert client.cookies["customer"].value == ""


@pytest.mark.parametrize("kept", ["Ada", 'Ada:"', "a:b:c"])
def test_what_a_browser_keeps_counts_only_as_it_was_signed(client, mug, kept):
    add(client, mug)
    client.cookies["customer"] = kept
    assert "Ada" not in get_html(client, CHECKOUT)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"name": " "}, "Tell us your name"),
        ({"email": "ada@"}, "This is no e-mail address"),
        ({"token": "short"}, "order once more"),
        ({"token": ""}, "order once more"),
        ({"token": "a\x00" * 11}, "order once more"),
        ({"agreed": ""}, "order once more"),
    ],
)
def test_a_checkout_filled_in_wrongly_keeps_the_rest(client, mug, typed, said):
    add(client, mug)
    right = read_hidden(get_html(client, CHECKOUT)) | {"name": "Ada", "email": "ada@example.org"}
    html = post(client, CHECKOUT, status=400, **right | typed)
    assert said in html
    for name in {"name", "email"} - typed.keys():
        assert f'value="{right[name]}"' in html
    assert "Thank you" in post(client, CHECKOUT, **right | read_hidden(html))


def test_a_checkout_sent_again_shows_the_same_order_and_leaves_a_new_cart_alone(client, mug):
    add(client, mug)
    asked = read_hidden(get_html(client, CHECKOUT)) | {"name": "Ada"}
    thanks = post(client, CHECKOUT, **asked)
    assert post(client, CHECKOUT, **asked) == thanks
    add(client, mug, 3)
    assert Order.objects.get().number in post(client, CHECKOUT, **asked)
    assert count_pieces(get_html(client, CART)) == 3
    assert Order.objects.count() == 1


def test_the_bill_names_each_currency(client, mug):
    add(client, mug, 2)
    add(client, make_product("Pot", price_cents=700, currency="EUR"))
    html = get_html(client, CART)
    assert "<dd>$20.00</dd><dd>€7.00</dd>" in html
    assert "<dd>$20.00</dd><dd>€7.00</dd>" in order(client)


@pytest.mark.parametrize("ref", ["forged", "x" * 5000, "\x00"])
def test_a_forged_reference_is_dropped_and_the_product_added(client, mug, ref):
    assert "In your cart" in add(client, mug, ref=ref)
    flush_recorded()
    assert not Event.objects.get(action_name="add_to_cart").query_id


def test_an_add_that_is_posted_again_is_one_event(client, mug, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    page = client.get("/search/?q=mug").content.decode()
    ref = unescape(page.split("?ref=")[1].split('"')[0])
    for _ in range(4):
        add(client, mug, ref=ref)
    flush_recorded()
    assert Event.objects.filter(action_name="add_to_cart").count() == 1
    assert list(Refusal.objects.values_list("reason", "count")) == [(Reason.DUPLICATE, 3)]
    monkeypatch.setattr(time, "time", lambda: now + ADD_LASTS_S)
    add(client, mug, ref=ref)
    add(client, mug)
    add(client, mug)
    flush_recorded()
    assert Event.objects.filter(action_name="add_to_cart").count() == 4


def test_an_order_is_shown_to_who_knows_its_address(client, mug, django_assert_num_queries):
    assert "There is no such page" in get_html(client, f"/orders/{make_token()}/", status=404)
    with django_assert_num_queries(0):
        assert "There is no such page" in get_html(client, "/orders/a%00b/", status=404)
    add(client, mug)
    order(client)
    Order.objects.all().erase()
    erased = get_html(Client(), f"/orders/{Order.objects.get().token}/")
    assert "Ada" not in erased
    assert "Red <mug>" in erased


def test_forms_from_elsewhere_are_refused_with_a_cure(mug):
    stranger = Client(enforce_csrf_checks=True)
    html = post(stranger, "/cart/add/", sku=mug.sku, quantity=1, status=403)
    assert "allow cookies for this shop" in html


@pytest.mark.parametrize("page", ["add", "change", "remove", "undo"])
def test_looking_at_an_address_changes_nothing(client, page):
    assert client.get(f"/cart/{page}/").status_code == 405


def test_a_cart_costs_few_queries_whatever_it_holds(client, mug, django_assert_max_num_queries):
    for number in range(8):
        add(client, make_product(f"Pot {number}", price_cents=100, currency="USD"))
    with django_assert_max_num_queries(2):
        get_html(client, CART)
    order(client)
    token = Order.objects.get().token
    with django_assert_max_num_queries(2):
        get_html(client, f"/orders/{token}/")


def test_staff_read_orders_and_change_nothing_but_erase(admin_client, client, mug, django_assert_max_num_queries):
    for _ in range(3):
        add(client, mug)
        order(client)
    placed = Order.objects.first()
    assert placed is not None
    with django_assert_max_num_queries(9):
        html = get_html(admin_client, "/admin/searchsite/order/")
    for shown in (placed.number, "$10.00", "0 of 1"):
        assert shown in html
    html = get_html(admin_client, f"/admin/searchsite/order/{placed.pk}/change/")
    assert "Red <mug>" in html
    assert 'name="_save"' not in html
    assert admin_client.get("/admin/searchsite/order/add/").status_code == 403
    assert admin_client.post(f"/admin/searchsite/order/{placed.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "Erased from 1 order" in post(
        admin_client, "/admin/searchsite/order/", action="erase", _selected_action=placed.pk
    )
    assert Order.objects.filter(name="Ada").count() == 2


def test_who_may_only_view_orders_erases_none(client, django_user_model, mug):
    add(client, mug)
    order(client)
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_order"))
    client.force_login(viewer)
    assert "Ada" in get_html(client, "/admin/searchsite/order/")
    client.post("/admin/searchsite/order/", {"action": "erase", "_selected_action": Order.objects.get().pk})
    assert Order.objects.get().name == "Ada"
