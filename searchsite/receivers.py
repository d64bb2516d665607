"""What the site does when a visitor is to be forgotten."""

from typing import Any

from django.dispatch import receiver

from experiments.signals import visitor_erased
from searchsite import orders


@receiver(visitor_erased)
def erase_orders(client_id: str, **kwargs: Any) -> dict[str, int]:
    """Forget who ordered, and return of how many orders."""
    return {"orders": orders.erase(client_id)}
