"""Writing products from outside the shop: what the API sends is checked, then saved or deleted, and announced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from django.db import transaction

from catalog.columns import FIELDS
from catalog.imports import UpsertResult, upsert_rows
from catalog.models import Product
from catalog.rows import RowError

READ_ONLY = frozenset(["url", "created_at", "updated_at"])  # given with a product, ignored when sent back


def save_rows(rows: Sequence[object]) -> UpsertResult:
    """Create or change the products of `rows`; rows that are wrong are left out and named, counted from 1.

    What a row does not mention stays as it is.
    """
    checked = [_check_row(number, row) for number, row in enumerate(rows, 1)]
    sound = [number for number, row in enumerate(checked, 1) if not isinstance(row, RowError)]
    result = upsert_rows(row for row in checked if not isinstance(row, RowError))
    for error in result.rejections:
        error.row = sound[error.row - 1]
    unsound = [row for row in checked if isinstance(row, RowError)]
    return replace(result, rejections=sorted([*unsound, *result.rejections], key=lambda error: error.row))


def _check_row(number: int, row: object) -> dict[str, object] | RowError:
    """Return the columns to save. Unlike a file's, an unknown one is a mistake and no attribute."""
    if not isinstance(row, dict):
        return RowError("", row, "expected a JSON object of columns", number)
    for column, value in row.items():
        if column not in FIELDS and column not in READ_ONLY:
            reason = f"unknown column {column!r:.100}, expected one of: {', '.join(FIELDS)}"
            return RowError(column, value, reason, number)
    return {column: value for column, value in row.items() if column not in READ_ONLY}


@transaction.atomic
def delete_products(skus: Iterable[str]) -> set[str]:
    """Delete the products with these SKUs and return which there were; the search forgets them too."""
    found = dict(Product.objects.filter(sku__in=list(skus)).values_list("sku", "pk"))
    Product.objects.filter(pk__in=found.values()).delete()
    return set(found)
