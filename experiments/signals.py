"""What the experiments tell the floors above."""

from django.dispatch import Signal

# Sent with `client_id` inside a transaction; receivers delete what they keep of the visitor and return how many rows
# of what: {"orders": 2}.
visitor_erased = Signal()
