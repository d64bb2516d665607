"""What shoppers add and buy, told to the experiments with the search that led them there."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.models import Product
from experiments.events import Action, read_counted, record_event, refuse
from experiments.models import Reason
from experiments.references import Reference
from experiments.visitors import ShopVisitor
from searchsite.models import Order, OrderItem


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
    record_event(
        visitor,
        Action.ADD_TO_CART,
        sku=product.sku,
        reference=reference,
        quantity=quantity,
        value_cents=(product.price_cents or 0) * quantity,
        currency=product.currency,
    )


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
