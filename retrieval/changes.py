"""Changes of the catalogue on their way into the index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from retrieval.models import PendingChange


@dataclass(frozen=True)
class Changes:
    """Changes that wait: their rows, and the products they name."""

    rows: tuple[int, ...]
    product_ids: frozenset[int]

    @classmethod
    def read(cls) -> Changes:
        """Return all that wait now."""
        found = list(PendingChange.objects.order_by("pk").values_list("pk", "product_ids"))
        return cls(tuple(row for row, _ in found), frozenset(product_id for _, ids in found for product_id in ids))

    @property
    def stamp(self) -> str:
        """What an index notes that has brought in exactly these; empty for none."""
        return hashlib.blake2b(repr(self.rows).encode(), digest_size=8).hexdigest() if self.rows else ""

    def forget(self) -> None:
        """Remove the rows: every index has them."""
        for start in range(0, len(self.rows), 1000):
            PendingChange.objects.filter(pk__in=self.rows[start : start + 1000]).delete()
