"""Revenue as it is added up: what somebody makes up fits into a column, and stops no report."""

from __future__ import annotations

MOST_CENTS = 10**15  # more than any shop sells in a day; thousands of days of it fit into a column


def add_cents(total: int, more: int) -> int:
    """Return the sum, within MOST_CENTS either way."""
    return max(-MOST_CENTS, min(total + more, MOST_CENTS))
