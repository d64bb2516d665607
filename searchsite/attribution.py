"""What shoppers add and buy, told to the experiments with the search that led them there."""

from __future__ import annotations

import time
from collections.abc import Sequence

from catalog.models import Product
from experiments.events import Action, derive_id, read_counted, record_event, refuse
from experiments.models import Reason
from experiments.references import Reference
from experiments.visitors import ShopVisitor
from searchsite.models import Order, OrderItem

ADD_LASTS_S = 600  # the same product of the same search, added again within it, is the same add


def read_reference(visitor: ShopVisitor, text: str, sku: str) -> Reference | None:
    """Return the search that led this visitor to this product, however long ago; what is forged or borrowed is counted.

    None without one, and for a visitor who is not logged.
    """
    if not text or not visitor.is_logged:
        return None
    reference = read_counted(visitor, text)
    if reference is None or reference.sku == sku:
        return reference
    refuse(Reason.FORGED)
    return None


def record_added(visitor: ShopVisitor, product: Product, quantity: int, reference: Reference | None) -> None:
    """Record that pieces were added to the cart: a product of a search once in a while, however often it is posted."""
    record_event(
        visitor,
        Action.ADD_TO_CART,
        sku=product.sku,
        reference=reference,
        quantity=quantity,
        value_cents=(product.price_cents or 0) * quantity,
        currency=product.currency,
        event_id=_name_add(reference) if reference else "",
    )


def _name_add(reference: Reference) -> str:
    return derive_id(Action.ADD_TO_CART, reference.query_id, reference.sku, str(int(time.time() // ADD_LASTS_S)))


def record_purchased(visitor: ShopVisitor, order: Order, bought: Sequence[tuple[OrderItem, Reference | None]]) -> None:
    """Record a purchase an item; recorded again, it is the same event."""
    for number, (item, reference) in enumerate(bought, start=1):
        record_event(
            visitor,
            Action.PURCHASE,
            sku=item.sku,
            reference=reference,
            quantity=item.quantity,
            value_cents=item.total_cents,
            currency=item.currency,
            event_id=f"{order.number}-{number}",
        )
