"""What the shop sells, and how it came in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models.functions import Upper
from django.utils import timezone
from django.utils.text import slugify

from catalog.signals import products_changed

PATH_SEPARATOR = "/"
INTERRUPTED_AFTER = timedelta(minutes=2)
SET_ACTIVE_BATCH = 1000
# The fields whose change makes a product a different thing to find.
CONTENT_FIELDS = (
    "title", "description", "brand", "category_id", "price_cents", "currency", "image_url", "gtin",
    "attributes", "rating", "rating_count", "stock", "popularity", "released", "active",
)  # fmt: skip


def build_path(names: Sequence[str]) -> str:
    """Return the path of slugs for category names, root first."""
    return PATH_SEPARATOR.join(slugify(name, allow_unicode=True) or "other" for name in names)


class CategoryQuerySet(models.QuerySet["Category"]):
    def for_path(self, names: Sequence[str]) -> Category | None:
        """Return the category at the end of `names` (root first), made with its parents where missing.

        No names gives None.
        """
        category = None
        for depth in range(1, len(names) + 1):
            defaults = {"name": names[depth - 1], "parent": category}
            category, _ = self.get_or_create(path=build_path(names[:depth]), defaults=defaults)
        return category


class Category(models.Model):
    """A node of the category tree, named by its path of slugs: 'home/kitchen/kettles'."""

    name = models.CharField(max_length=200)
    path = models.CharField(max_length=700, unique=True)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="children")

    objects = CategoryQuerySet.as_manager()

    class Meta:
        ordering = ["path"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.path


class ProductQuerySet(models.QuerySet["Product"]):
    def in_order(self, product_ids: Sequence[int]) -> list[Product]:
        """Return the products with these ids, in this order; ids no longer there are left out.

        They are for lists: `description` and `attributes` are read from the database only when asked for.
        """
        found = self.select_related("category").defer("description", "attributes").in_bulk(list(product_ids))
        return [found[product_id] for product_id in product_ids if product_id in found]

    def active(self) -> ProductQuerySet:
        return self.filter(active=True)

    def with_code(self, code: str) -> ProductQuerySet:
        """Return the products whose SKU, whatever its case, or GTIN is `code`."""
        in_capitals = Upper(models.Value(code, models.CharField()))
        return self.alias(capitals=Upper("sku")).filter(models.Q(capitals=in_capitals) | models.Q(gtin=code))

    def set_active(self, active: bool) -> int:
        """Put these products on sale or take them off it, announce it, and return how many that changed."""
        return sum(self.set_active_in_batches(active))

    def set_active_in_batches(self, active: bool) -> Iterator[int]:
        """Do what set_active does, each batch its own transaction, and yield how many each changed."""
        last, changed = 0, self.filter(active=not active).order_by("pk").select_for_update(of=("self",))
        while True:
            with transaction.atomic():
                products = list(changed.filter(pk__gt=last).values("pk", *CONTENT_FIELDS)[:SET_ACTIVE_BATCH])
                if not products:
                    return
                product_ids = [last := values["pk"] for values in products]
                self._write_active(products, active)
                products_changed.send(Product, product_ids=product_ids)
            yield len(products)

    def _write_active(self, products: Sequence[dict[str, Any]], active: bool) -> None:
        # One prepared statement, five times as fast as bulk_update: a feed may take half a shop off sale.
        table, now = connection.ops.quote_name(Product._meta.db_table), timezone.now()
        statement = f"UPDATE {table} SET active = %s, content_hash = %s, updated_at = %s WHERE id = %s"
        adapted = connection.ops.adapt_datetimefield_value(now)
        rows = [(active, hash_content({**values, "active": active}), adapted, values["pk"]) for values in products]
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)

    def delete(self) -> tuple[int, dict[str, int]]:
        product_ids = list(self.values_list("pk", flat=True))
        with transaction.atomic():
            deleted = super().delete()
            products_changed.send(Product, product_ids=product_ids)
        return deleted


class Product(models.Model):
    """One thing on sale. `sku` is its name in the shop; everything else may change."""

    sku = models.CharField("SKU", max_length=100, unique=True)
    title = models.CharField(max_length=1000)
    description = models.TextField(blank=True)
    brand = models.CharField(max_length=200, blank=True, db_index=True)
    category = models.ForeignKey(Category, on_delete=models.PROTECT, null=True, blank=True, related_name="products")
    price_cents = models.BigIntegerField("price (minor units)", null=True, blank=True)
    currency = models.CharField(max_length=3, blank=True)
    image_url = models.CharField(max_length=2000, blank=True)
    gtin = models.CharField("GTIN", max_length=50, blank=True)
    attributes = models.JSONField(default=dict, blank=True, help_text="Free name and value pairs.")
    rating = models.FloatField(null=True, blank=True, help_text="Average stars, 0 to 5.")
    rating_count = models.PositiveIntegerField(default=0)
    stock = models.IntegerField(null=True, blank=True, help_text="Pieces at hand; empty means not tracked.")
    popularity = models.FloatField(default=0.0, help_text="Any figure that grows with demand.")
    released = models.DateField(null=True, blank=True)
    active = models.BooleanField(default=True)
    content_hash = models.CharField(max_length=32, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(Upper("sku"), name="product_by_sku_in_capitals"),
            models.Index(fields=["gtin"], name="product_by_gtin"),
        ]

    def __str__(self) -> str:
        return f"{self.sku}: {self.title}"

    def save(self, **options: Any) -> None:
        """Save and announce the change."""
        self.content_hash = self.compute_content_hash()
        if (names := options.get("update_fields")) is not None:
            options["update_fields"] = {*names, "content_hash"}
        with transaction.atomic():
            super().save(**options)
            products_changed.send(Product, product_ids=[self.pk])

    def delete(self, using: str | None = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Delete and announce it."""
        product_ids = [self.pk]
        with transaction.atomic():
            deleted = super().delete(using, keep_parents)
            products_changed.send(Product, product_ids=product_ids)
        return deleted

    @property
    def is_in_stock(self) -> bool:
        return self.stock is None or self.stock > 0

    def compute_content_hash(self) -> str:
        """Return 32 hex digits that change when any of CONTENT_FIELDS does."""
        return hash_content({name: getattr(self, name) for name in CONTENT_FIELDS})


def hash_content(values: dict[str, Any]) -> str:
    text = json.dumps([values[name] for name in CONTENT_FIELDS], sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ImportRunQuerySet(models.QuerySet["ImportRun"]):
    def stale(self) -> ImportRunQuerySet:
        """Return the runs that nobody works at although they are not done."""
        is_open = models.Q(state__in=[ImportRun.State.PENDING, ImportRun.State.RUNNING])
        return self.filter(is_open, beat_at__lt=timezone.now() - INTERRUPTED_AFTER)


class ImportRun(models.Model):
    """One import of one file: what it was asked, how far it is, what it did."""

    class State(models.TextChoices):
        PENDING = "pending"
        RUNNING = "running"
        FINISHED = "finished"
        FAILED = "failed"

    source = models.CharField(max_length=1000, help_text="The file's name as the user knows it.")
    upload = models.FileField(upload_to="imports/", blank=True)
    format = models.CharField(max_length=20, blank=True)
    mapping = models.JSONField(default=dict, blank=True)
    is_dry_run = models.BooleanField(default=False)
    is_full = models.BooleanField(default=False, help_text="Products the file does not list are deactivated.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    error = models.TextField(blank=True)
    bytes_total = models.BigIntegerField(default=0)
    bytes_read = models.BigIntegerField(default=0)
    rows = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    deactivated = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(auto_now_add=True)
    # Moves with every batch: a run that stands still was killed.
    beat_at = models.DateTimeField(auto_now=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = ImportRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.source} ({self.state})"

    @property
    def is_interrupted(self) -> bool:
        return self.state == self.State.RUNNING and timezone.now() - self.beat_at > INTERRUPTED_AFTER

    @property
    def share_done(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return min(self.bytes_read / self.bytes_total, 1.0) if self.bytes_total else 0.0


class SeenProduct(models.Model):
    """A product that a full feed listed, noted while it is read: those not noted are deactivated at its end."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="seen")
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "product"], name="seen_once")]

    def __str__(self) -> str:
        return f"product {self.product_id} in run {self.run_id}"


class RejectedRow(models.Model):
    """A row that was not imported, and why."""

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="rejections")
    row = models.PositiveIntegerField(help_text="Counted from 1, the header not included.")
    column = models.CharField(max_length=200, blank=True)
    value = models.CharField(max_length=500, blank=True)
    reason = models.CharField(max_length=500)

    class Meta:
        ordering = ["row"]

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.reason}"
