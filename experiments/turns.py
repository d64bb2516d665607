"""Erasing a visitor, and writing sums of what visitors did: one at a time."""

from __future__ import annotations

from django.db import connection

SUMS_LOCK = 7_265_638  # any number that is no other lock's, the same in every process


def take_turn() -> None:
    """Wait, on PostgreSQL, until no other transaction erases or writes sums, as SQLite has everyone wait.

    Otherwise whoever is erased while a day is summed up would come back with it. Ends with the transaction.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SUMS_LOCK])
