"""What the catalogue announces. Receivers get `product_ids`, a list of primary keys."""

from django.dispatch import Signal

# Products were created, changed, deactivated or deleted. Sent inside the transaction that wrote them.
products_changed = Signal()
