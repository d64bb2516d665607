"""Rows become products: one query to read, one statement to write, whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Field
from django.utils import timezone

from catalog.columns import ColumnMap
from catalog.dry_run import DryRun
from catalog.models import CONTENT_FIELDS, Category, Product, build_path, hash_content
from catalog.readers import RawRow
from catalog.rows import ProductRow, RowError, find_sku, parse_row
from catalog.signals import products_changed

WRITE_LOCK = 7_265_637  # any number, the same in every process
MAX_KNOWN_CATEGORIES = 100_000
NEW_PRODUCT = {field.attname: field.get_default() for field in Product._meta.concrete_fields}
FIELDS = [field for field in Product._meta.concrete_fields if not field.primary_key]
KEPT = ("sku", "created_at")  # by a product that is there already
Stored = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What became of some rows. `changed`: ids of created and updated products; `listed`: of all the rows name.

    A row that a later one for the same SKU replaces counts as unchanged.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    rejections: Sequence[RowError] = ()
    changed: Sequence[int] = ()
    listed: Sequence[int] = ()


@dataclass
class Batch:
    """Writes one batch of rows after the other, each within the caller's transaction."""

    columns: ColumnMap
    currency: str
    dry_run: DryRun | None = None
    _categories: CategoryIds = field(init=False)
    _rejections: list[RowError] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._categories = CategoryIds(is_dry_run=self.dry_run is not None)

    def write(self, rows: Sequence[RawRow]) -> UpsertResult:
        """Write the rows' products, the last of each SKU, and announce the changes."""
        self._rejections = []
        named: dict[str, ProductRow | None] = {}  # by SKU; None where the row was rejected
        for row in rows:
            self._add(named, row)
        if self.dry_run is None:
            take_turn()
        stored = load_products(named)
        if self.dry_run:
            self.dry_run.overlay(stored, named, NEW_PRODUCT)
        merged = {sku: self._merge(row, stored.get(sku)) for sku, row in named.items() if row}
        written = {sku: values for sku, values in merged.items() if values}
        created = [sku for sku in written if sku not in stored]
        changed = self._save(written, stored, created)
        rejections = sorted(self._rejections, key=lambda error: error.row)
        unchanged = len(rows) - len(rejections) - len(written)
        listed = {values["id"] for values in stored.values() if values["id"]} | set(changed)
        return UpsertResult(len(created), len(written) - len(created), unchanged, rejections, changed, sorted(listed))

    def _add(self, named: dict[str, ProductRow | None], row: RawRow) -> None:
        try:
            if row.error:
                raise RowError("", "", row.error)
            product = parse_row(row.number, row.values, self.columns, self.currency)
        except RowError as error:
            self._reject(row.number, error)
            if sku := find_sku(row.values, self.columns):
                named.setdefault(sku, None)
            return
        named[product.sku] = product.over(named.get(product.sku))

    def _reject(self, number: int, error: RowError) -> None:
        error.row = number
        self._rejections.append(error)

    def _merge(self, row: ProductRow, stored: Stored | None) -> Stored | None:
        """Return the values to write, None when nothing changes or a new product lacks its title."""
        if stored is None and not row.values.get("title"):
            self._reject(row.number, RowError("title", "", "a new product needs a title"))
            return None
        known = stored or NEW_PRODUCT
        values = {name: known[name] for name in CONTENT_FIELDS} | row.values
        if row.category is not None:
            values["category_id"] = self._categories.get(row.category)
        content_hash = hash_content(values)
        if stored and stored["content_hash"] == content_hash:
            return None
        return values | {"sku": row.sku, "content_hash": content_hash}

    def _save(self, written: dict[str, Stored], stored: dict[str, Stored], created: Sequence[str]) -> list[int]:
        """Write the products and return their ids."""
        if self.dry_run:
            self.dry_run.note(stored, written)
        if not written or self.dry_run:
            return []
        write_products(written.values(), timezone.now())
        found = dict(Product.objects.filter(sku__in=created).values_list("sku", "pk")) if created else {}
        product_ids = [found[sku] if sku in found else stored[sku]["id"] for sku in written]
        products_changed.send(Product, product_ids=product_ids)
        return product_ids


def take_turn() -> None:
    """Wait, on PostgreSQL, until no other import or bulk request is writing, as SQLite has everyone wait.

    Otherwise two that write the same SKUs in different orders would wait for each other. Ends with the transaction.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [WRITE_LOCK])


def load_products(skus: Iterable[str]) -> dict[str, Stored]:
    found = Product.objects.filter(sku__in=list(skus)).values("id", "sku", "content_hash", *CONTENT_FIELDS)
    return {values["sku"]: values for values in found}


def write_products(products: Iterable[Stored], now: datetime) -> None:
    """Insert products, or update those whose SKU is there.

    A statement of our own: building models and queries for bulk_create takes longer than the database does.
    """
    writers = [(field.attname, _find_adapter(field)) for field in FIELDS]
    times = dict.fromkeys(("created_at", "updated_at"), connection.ops.adapt_datetimefield_value(now))
    values = [[adapt(product[name]) for name, adapt in writers] for product in (row | times for row in products)]
    with connection.cursor() as cursor:
        cursor.executemany(_build_statement(), values)


def _build_statement() -> str:
    quote = connection.ops.quote_name
    columns = [quote(str(field.column)) for field in FIELDS]
    written = [quote(str(field.column)) for field in FIELDS if field.name not in KEPT]
    updates = [f"{column} = excluded.{column}" for column in written]
    return (
        f"INSERT INTO {quote(Product._meta.db_table)} ({', '.join(columns)}) "
        f"VALUES ({', '.join(['%s'] * len(columns))}) ON CONFLICT ({quote('sku')}) DO UPDATE SET {', '.join(updates)}"
    )


def _find_adapter(field: Field[Any, Any]) -> Callable[[Any], Any]:
    """Return what turns a value of the field into what the database takes; most need nothing."""
    if field.name in ("attributes", "released"):
        return lambda value: field.get_db_prep_save(value, connection)
    return lambda value: value


class CategoryIds:
    """Primary keys of category paths, made where missing, each looked up once."""

    def __init__(self, *, is_dry_run: bool) -> None:
        self._is_dry_run = is_dry_run
        self._known: dict[tuple[str, ...], int | None] = {}

    def get(self, names: tuple[str, ...]) -> int | None:
        """Return the category's key, None for no names, and -1 for one that a dry run does not make."""
        if names not in self._known:
            if len(self._known) > MAX_KNOWN_CATEGORIES:
                self._known.clear()
            self._known[names] = self._find(names) if names else None
        return self._known[names]

    def _find(self, names: tuple[str, ...]) -> int | None:
        if self._is_dry_run:
            return Category.objects.filter(path=build_path(names)).values_list("pk", flat=True).first() or -1
        category = Category.objects.for_path(names)
        return category.pk if category else None
