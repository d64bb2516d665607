"""Orders: all of the cart at the agreed terms or nothing, once, however many ask."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product
from experiments import retention
from experiments.events import flush_recorded
from experiments.models import Event
from experiments.references import Reference, sign
from experiments.visitors import ShopVisitor
from retrieval.models import PendingChange
from searchsite import orders
from searchsite.bill import make_bill
from searchsite.cart import Line
from searchsite.forms_checkout import make_token
from searchsite.models import Order, OrderItem
from searchsite.orders import CartChanged, Purchase, place_order
from tests.factories import make_product

VISITOR = ShopVisitor("v" * 22)
QUERY_ID = str(uuid.UUID(int=7))


def make_line(product: Product, quantity: int = 1, reference: str = "") -> Line:
    return Line(product.sku, product.title, quantity, product.price_cents or 0, product.currency, reference)


def make_purchase(*lines: Line, **facts: Any) -> Purchase:
    asked: dict[str, Any] = {
        "token": make_token(),
        "name": "Ada",
        "email": "ada@example.org",
        "agreed": make_bill(lines).digest,
    }
    return Purchase(**asked | facts, lines=lines)


def make_mug(title: str = "Mug", **facts: Any) -> Product:
    usual: dict[str, Any] = {"price_cents": 1000, "currency": "USD"}
    return make_product(title, **usual | facts)


def refer_to(product: Product, position: int = 3, visitor: ShopVisitor = VISITOR) -> str:
    return sign(Reference(QUERY_ID, product.sku, position), visitor)


@pytest.fixture
def bought(db, django_capture_on_commit_callbacks):
    """Buy, tell the experiments, and return the order."""

    def buy(purchase: Purchase, visitor: ShopVisitor = VISITOR) -> Order:
        with django_capture_on_commit_callbacks(execute=True):
            order = place_order(purchase, visitor)
        flush_recorded()
        return order

    return buy


def list_purchases() -> list[Event]:
    return list(Event.objects.filter(action_name="purchase").order_by("pk"))


def test_an_order_keeps_what_was_sold_at_which_price(bought):
    mug, pot = make_mug(title="Mug"), make_mug(title="Pot", price_cents=2500)
    order = bought(make_purchase(make_line(mug, 2), make_line(pot)))
    assert (order.name, order.email, order.client_id) == ("Ada", "ada@example.org", VISITOR.id)
    items = list(order.items.values_list("sku", "title", "quantity", "price_cents", "currency"))
    assert items == [(mug.sku, "Mug", 2, 1000, "USD"), (pot.sku, "Pot", 1, 2500, "USD")]
    assert (order.count, order.totals) == (3, ["$45.00"])
    mug.delete()
    assert Order.objects.get().count == 3


def test_tracked_stock_shrinks_and_the_index_hears_of_it(bought):
    tracked, free = make_mug(stock=5), make_mug(stock=None)
    PendingChange.objects.all().delete()
    bought(make_purchase(make_line(tracked, 2), make_line(free, 2)))
    tracked.refresh_from_db()
    assert tracked.stock == 3
    assert tracked.content_hash == tracked.compute_content_hash()
    assert PendingChange.objects.all().product_ids() == {tracked.pk}


def test_an_order_takes_as_many_queries_whatever_it_holds(db, django_assert_num_queries):
    purchases = [make_purchase(*(make_line(make_mug(stock=5)) for _ in range(count))) for count in (1, 12)]
    with CaptureQueriesContext(connection) as small:
        place_order(purchases[0], VISITOR)
    with django_assert_num_queries(len(small)):
        place_order(purchases[1], VISITOR)


@pytest.mark.parametrize(
    "change", [{"price_cents": 1200}, {"price_cents": None}, {"active": False}, {"stock": 1}, {"currency": "EUR"}]
)
def test_nothing_is_sold_otherwise_than_agreed(db, change):
    mug, pot = make_mug(stock=9), make_mug(stock=9)
    purchase = make_purchase(make_line(pot), make_line(mug, 2))
    Product.objects.filter(pk=mug.pk).update(**change)
    with pytest.raises(CartChanged):
        place_order(purchase, VISITOR)
    assert not Order.objects.exists()
    assert Product.objects.get(pk=pot.pk).stock == 9


def test_nothing_is_sold_of_what_is_gone_or_of_an_empty_cart(db):
    mug = make_mug()
    purchase = make_purchase(make_line(mug))
    mug.delete()
    for asked in (purchase, make_purchase()):
        with pytest.raises(CartChanged):
            place_order(asked, VISITOR)
    assert not Order.objects.exists()


def test_a_checkout_sent_twice_is_one_order(bought):
    mug = make_mug(stock=5)
    purchase = make_purchase(make_line(mug))
    assert bought(purchase) == bought(purchase)
    assert Order.objects.count() == OrderItem.objects.count() == 1
    assert Product.objects.get().stock == 4
    assert len(list_purchases()) == 1


def test_each_item_is_a_purchase_by_the_search_that_led_to_it(bought):
    found, met = make_mug(), make_mug(price_cents=500, currency="EUR")
    order = bought(make_purchase(make_line(found, 3, refer_to(found)), make_line(met)))
    first, second = list_purchases()
    assert first.event_id == f"{order.number}-1"
    assert (str(first.query_id), first.object_id, first.position) == (QUERY_ID, found.sku, 3)
    assert (first.quantity, first.value_cents, first.currency) == (3, 3000, "USD")
    assert (second.query_id or None, second.value_cents, second.currency) == (None, 500, "EUR")
    assert list(order.items.values_list("query_id", "position")) == [(QUERY_ID, 3), ("", None)]


@pytest.mark.parametrize("reference", ["forged", "other product", "other visitor", "old", "damaged"])
def test_what_does_not_lead_from_a_search_to_the_product_is_not_attributed(bought, reference, monkeypatch):
    mug = make_mug()
    sound = refer_to(mug)
    text = {
        "forged": "x" * 80,
        "other product": refer_to(make_mug()),
        "other visitor": refer_to(mug, visitor=ShopVisitor("w" * 22)),
        "old": sound,
        "damaged": sound[:-2],
    }[reference]
    if reference == "old":
        monkeypatch.setitem(settings.SEARCHSITE, "ATTRIBUTION_HOURS", -1)
    order = bought(make_purchase(make_line(mug, 1, text)))
    assert order.items.get().query_id == ""
    (event,) = list_purchases()
    assert not event.query_id
    assert event.value_cents == 1000


def test_the_longest_sku_is_ordered_and_recorded(bought):
    mug = make_mug(sku="é" * 100, title="M" * 1000)
    order = bought(make_purchase(make_line(mug, 99, refer_to(mug))))
    assert order.items.get().title == "M" * 1000
    assert [event.object_id for event in list_purchases()] == [mug.sku]


def test_who_is_not_logged_buys_without_a_trace(bought):
    mug, nobody = make_mug(), ShopVisitor("n" * 22, is_logged=False)
    order = bought(make_purchase(make_line(mug, 1, refer_to(mug, visitor=nobody))), nobody)
    assert (order.client_id, order.items.get().query_id) == ("", "")
    assert list_purchases() == []


def test_a_failed_order_records_nothing(bought):
    mug = make_mug()
    purchase = make_purchase(make_line(mug), agreed="something else")
    with pytest.raises(CartChanged):
        bought(purchase)
    flush_recorded()
    assert list_purchases() == []


def test_erasing_a_visitor_leaves_what_was_sold(bought):
    mug, other = make_mug(), ShopVisitor("o" * 22)
    bought(make_purchase(make_line(mug, 1, refer_to(mug))))
    kept = bought(make_purchase(make_line(mug)), other)
    forgotten = retention.erase(VISITOR.id)
    assert (forgotten["searches"], forgotten["events"], forgotten["orders"]) == (0, 1, 1)
    assert orders.erase(VISITOR.id) == orders.erase("") == 0
    erased = Order.objects.exclude(pk=kept.pk).get()
    assert (erased.name, erased.email, erased.client_id) == ("", "", "")
    assert list(erased.items.values_list("sku", "query_id", "position")) == [(mug.sku, "", None)]
    assert Order.objects.get(pk=kept.pk).name == "Ada"


@pytest.fixture
def file_database(transactional_db, tmp_path):
    """A database that threads wait for: one that SQLite holds in memory turns the second away."""
    if connection.vendor != "sqlite":
        yield
        return
    in_memory, name = connection.connection, connection.settings_dict["NAME"]
    with closing(sqlite3.connect(tmp_path / "shop.sqlite3")) as file:
        in_memory.backup(file)
    connection.connection, connection.settings_dict["NAME"] = None, str(tmp_path / "shop.sqlite3")
    yield
    connection.close()
    connection.connection, connection.settings_dict["NAME"] = in_memory, name


def run_at_once(*jobs) -> None:
    """Run each in a thread of its own, all starting together."""
    start = threading.Barrier(len(jobs))

    def run(job) -> None:
        try:
            start.wait()
            job()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_those_who_buy_the_last_piece_one_gets_it(file_database):
    mug, pot = make_mug(stock=1), make_mug(stock=9)
    sold, told = [], []

    def buy(*lines: Line) -> None:
        try:
            sold.append(place_order(make_purchase(*lines), VISITOR))
        except CartChanged:
            told.append(lines)

    run_at_once(
        lambda: buy(make_line(mug), make_line(pot)),
        lambda: buy(make_line(pot), make_line(mug)),
        lambda: buy(make_line(mug)),
    )
    assert (len(sold), len(told)) == (1, 2)
    assert Order.objects.count() == 1
    assert Product.objects.get(pk=mug.pk).stock == 0


def test_a_double_click_at_the_same_moment_is_one_order(file_database):
    mug = make_mug(stock=9)
    purchase = make_purchase(make_line(mug))
    placed = []
    run_at_once(*[lambda: placed.append(place_order(purchase, VISITOR).number)] * 4)
    assert len(placed) == 4
    assert len(set(placed)) == 1
    assert Product.objects.get().stock == 8


def test_order_numbers_are_hard_to_misread_and_tokens_hard_to_guess(db):
    order = Order.objects.create(token=make_token())
    assert len(order.number) == 10
    assert not set(order.number) & set("01ILOU")
    assert len(order.token) == 22
    assert timezone.now() - order.created_at < timedelta(minutes=1)
