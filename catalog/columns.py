"""Which column of a file is which field of a product."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from catalog.readers import ImportRefused

# Usual names by field, the surest first: where a file has several, the first of the list counts.
ALIASES = {
    "sku": ("sku", "variant sku", "product id", "item id", "article number", "item number", "product code", "id",
            "code"),
    "title": ("title", "product title", "name", "product name", "item name"),
    "description": ("description", "body html", "product description", "long description", "body", "details"),
    "brand": ("brand", "brand name", "vendor", "manufacturer", "make"),
    "category": ("category", "category path", "product type", "categories", "product category", "type", "department",
                 "breadcrumbs", "google product category"),
    "price": ("price", "price usd", "variant price", "unit price", "list price", "amount"),
    "currency": ("currency", "price currency", "currency code"),
    "image_url": ("image url", "image", "image link", "image src", "main image", "picture", "img", "thumbnail"),
    "gtin": ("gtin", "ean", "ean13", "upc", "barcode", "variant barcode", "isbn"),
    "rating": ("rating", "average rating", "rating value", "stars"),
    "rating_count": ("rating count", "review count", "reviews", "number of reviews", "ratings"),
    "stock": ("stock", "variant inventory qty", "stock quantity", "quantity", "qty", "inventory", "availability"),
    "popularity": ("popularity", "sales", "units sold", "orders", "views"),
    "released": ("released", "release date", "launch date", "published at", "created at"),
    "active": ("active", "enabled", "published", "status"),
    "attributes": ("attributes", "specifications", "specs", "properties", "features"),
}  # fmt: skip
# Facts about the feed or its pages, not about the product.
IGNORED = ("link", "url", "mobile link", "product url", "additional image link", "canonical link", "handle",
           "identifier exists", "ads redirect", "custom label 0", "custom label 1")  # fmt: skip
FIELDS = tuple(ALIASES)
LABELS = {"sku": "SKU"}
IGNORE = "ignore"
MAX_KNOWN_COLUMNS = 100_000


def fold(column: str) -> str:
    """Return a column's name as it is compared: 'Image_Link', 'image link' and 'g:image_link' are one."""
    return re.sub(r"[^a-z0-9]+", " ", column.casefold().removeprefix("g:")).strip()


_FIELD_OF = {name: (field, rank) for field, names in ALIASES.items() for rank, name in enumerate((fold(field), *names))}


@dataclass
class ColumnMap:
    """Tells the field of each column: as named by the user, else by its usual name, else an attribute."""

    overrides: Mapping[str, str] = field(default_factory=dict)
    _known: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column, target in self.overrides.items():
            if target not in FIELDS and target != IGNORE and not target.startswith("attributes."):
                choices = ", ".join((*FIELDS, "attributes.NAME", IGNORE))
                raise ImportRefused(f"cannot map {column!r} to {target!r}, expected one of: {choices}")

    def target(self, column: str) -> tuple[str, int]:
        """Return the field, 'attributes.NAME' or 'ignore', and how sure it is: the lower the surer."""
        if column not in self._known:
            if len(self._known) > MAX_KNOWN_COLUMNS:  # JSON may name every product's attributes differently
                self._known.clear()
            self._known[column] = self._find(column)
        return self._known[column]

    def _find(self, column: str) -> tuple[str, int]:
        folded = fold(column)
        for name, target in self.overrides.items():
            if name == column or fold(name) == folded:
                return target, -1
        if folded in _FIELD_OF:
            return _FIELD_OF[folded]
        if not folded or folded in IGNORED:
            return IGNORE, 0
        return f"attributes.{column.strip().removeprefix('g:').replace('_', ' ')}", 0

    def check(self, columns: list[str], name: str, required: Sequence[str] = ("sku",)) -> None:
        """Raise ImportRefused unless `columns` have the required fields and everything the user mapped."""
        missing = [column for column in self.overrides if fold(column) not in map(fold, columns)]
        if missing:
            raise ImportRefused(f"{name} has no column {missing[0]!r:.80} to map; its columns are: {_shown(columns)}")
        found = {self.target(column)[0] for column in columns}
        for target in required:
            if target not in found:
                raise ImportRefused(
                    f"{name} has no column for the {LABELS.get(target, target)}; its columns are: {_shown(columns)}; "
                    f"name it with --map COLUMN={target}"
                )


def _shown(columns: list[str]) -> str:
    return ", ".join(repr(column[:80]) for column in columns[:30]) + (" …" if len(columns) > 30 else "")
