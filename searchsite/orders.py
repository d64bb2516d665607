"""From a cart to an order: all of it at the terms the shopper saw, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Product
from catalog.signals import products_changed
from catalog.upsert import take_turn
from experiments.references import Reference
from experiments.visitors import ShopVisitor
from searchsite.attribution import read_reference, record_purchased
from searchsite.bill import Bill, Offer, make_bill
from searchsite.cart import Line
from searchsite.models import Order, OrderItem


class CartChanged(Exception):  # noqa: N818 - says what happened
    """What can be bought, or at what price, is not what the shopper agreed to; nothing was ordered."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is asked for at the checkout. `token`: of this checkout; `agreed`: the digest of the bill that was shown."""

    token: str
    name: str
    email: str
    agreed: str
    lines: tuple[Line, ...]


def place_order(purchase: Purchase, visitor: ShopVisitor) -> Order:
    """Return the order, taken out of stock and announced; for a token used before, the order it made.

    Raises CartChanged.
    """
    try:
        with transaction.atomic():
            order = _open_order(purchase, visitor)
            bought = [_make_item(order, offer, visitor) for offer in _sell(purchase)]
            OrderItem.objects.bulk_create(item for item, _ in bought)
            transaction.on_commit(partial(record_purchased, visitor, order, bought))
    except IntegrityError:  # the same checkout, sent twice at once: the other was first
        return Order.objects.get(token=purchase.token)
    return order


def _open_order(purchase: Purchase, visitor: ShopVisitor) -> Order:
    client_id = visitor.id if visitor.is_logged else ""
    return Order.objects.create(token=purchase.token, client_id=client_id, name=purchase.name, email=purchase.email)


def _sell(purchase: Purchase) -> Sequence[Offer]:
    """Take the pieces out of stock and return what was sold; raises CartChanged.

    The products are locked first, in one order for all: of two buyers of the last piece, the second sees it gone.
    """
    take_turn()  # an import that has read the stock must write it before we do
    skus = [line.sku for line in purchase.lines]
    products = Product.objects.select_for_update(of=("self",)).filter(sku__in=skus).order_by("pk")
    bill = make_bill(purchase.lines, products)
    if not bill.is_payable or bill.digest != purchase.agreed:
        raise CartChanged
    _take_from_stock(bill)
    return bill.offers


def _take_from_stock(bill: Bill) -> None:
    """Write the smaller stocks and announce the products, which the index is to know as they are."""
    products, now = [], timezone.now()
    for offer in bill.offers:
        product = offer.product
        if product and product.stock is not None:
            product.stock, product.updated_at = product.stock - offer.line.quantity, now
            product.content_hash = product.compute_content_hash()
            products.append(product)
    Product.objects.bulk_update(products, ["stock", "content_hash", "updated_at"])
    products_changed.send(Product, product_ids=[product.pk for product in products])


def _make_item(order: Order, offer: Offer, visitor: ShopVisitor) -> tuple[OrderItem, Reference | None]:
    """Return the item with the reference it came by, which names the search only within the attribution window."""
    reference = read_reference(visitor, offer.line.reference, offer.line.sku)
    item = OrderItem(
        order=order,
        sku=offer.line.sku,
        title=offer.title,
        quantity=offer.line.quantity,
        price_cents=offer.price_cents,
        currency=offer.currency,
    )
    if reference and not reference.is_expired:
        item.query_id, item.position = reference.query_id, reference.position
    return item, reference


def erase(client_id: str) -> int:
    """Forget who ordered and what they searched for, in all orders of the visitor; return how many there were."""
    return Order.objects.exclude(client_id="").filter(client_id=client_id).erase()
