"""What a dry run remembers of the rows it has seen, so that it counts as the import itself would."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from catalog.models import Product

CHUNK = 500


class DryRun:
    """SKUs seen so far, in a private file that the system removes: memory does not grow with the catalogue."""

    def __init__(self) -> None:
        self._notes = sqlite3.connect("")  # SQLite's name for a temporary file
        self._notes.execute("CREATE TABLE note (sku TEXT PRIMARY KEY, content_hash TEXT, on_sale INT) WITHOUT ROWID")

    def overlay(self, stored: dict[str, dict[str, Any]], skus: Iterable[str], new: Mapping[str, Any]) -> None:
        """Put into `stored` what rows before would have written for these SKUs, `new` being an empty product."""
        names = list(skus)
        for start in range(0, len(names), CHUNK):
            part = names[start : start + CHUNK]
            marks = ", ".join("?" * len(part))
            found = self._notes.execute(f"SELECT sku, content_hash FROM note WHERE sku IN ({marks})", part)
            for sku, content_hash in found:
                stored[sku] = {**stored.get(sku, new), "content_hash": content_hash}

    def note(self, stored: Mapping[str, Mapping[str, Any]], written: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember what would be written, and what of the catalogue was listed."""
        hashes = {sku: values["content_hash"] for sku, values in (*stored.items(), *written.items())}
        notes = [(sku, text, sku in stored and stored[sku]["active"]) for sku, text in hashes.items()]
        self._notes.executemany(
            "INSERT INTO note VALUES (?, ?, ?) ON CONFLICT (sku) DO UPDATE SET content_hash = excluded.content_hash",
            notes,
        )

    def count_unlisted(self) -> int:
        """Return how many products on sale no row has named."""
        (listed,) = self._notes.execute("SELECT coalesce(sum(on_sale), 0) FROM note").fetchone()
        return Product.objects.active().count() - int(listed)
