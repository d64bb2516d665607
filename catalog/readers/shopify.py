"""Shopify's product export: one row a variant, facts of the product on its first row only.

Each variant becomes a product, because each has a SKU, a price and a stock of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from catalog.readers.base import ImportRefused, RawRow

# Facts of the whole product, which later rows of the same handle leave empty.
SHARED = ("Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Published", "Status")
OPTIONS = ("Option1", "Option2", "Option3")
# Names that newer exports have for the same columns.
RENAMED = {
    "url handle": "Handle", "description": "Body (HTML)", "published on online store": "Published",
    "sku": "Variant SKU", "barcode": "Variant Barcode", "price": "Variant Price",
    "inventory quantity": "Variant Inventory Qty", "product image url": "Image Src",
    "variant image url": "Variant Image",
}  # fmt: skip
KNOWN = (
    "Handle", "Variant SKU", "Variant Barcode", "Variant Price", "Variant Inventory Qty", "Variant Image", "Image Src",
    *SHARED, *(f"{option} {part}" for option in OPTIONS for part in ("Name", "Value")),
)  # fmt: skip
NAMES = {name.casefold(): name for name in KNOWN} | RENAMED


def is_export(header: Sequence[str]) -> bool:
    """Return whether these are the columns of Shopify's export, of whatever year."""
    names = {NAMES.get(column.casefold()) for column in header}
    is_handled = {"handle", "url handle"} & {column.casefold() for column in header}
    return bool(is_handled) and {"Title", "Option1 Name", "Variant SKU"} <= names


def join_variants(rows: Iterator[RawRow], name: str) -> Iterator[RawRow]:
    """Yield one row per variant, each with the facts of its product; raises ImportRefused without a handle column.

    A row that only adds a picture is no product. A variant without a SKU goes by its handle and options.
    """
    handle, shared, image = "", dict[str, str](), ""
    for row in rows:
        if row.error:
            yield row
            continue
        values = {NAMES.get(column.casefold(), column): value for column, value in row.values.items()}
        if "Handle" not in values:
            raise ImportRefused(f"{name} has no column 'Handle', so it is no Shopify export; import it as csv")
        if values["Handle"] != handle or values.get("Title"):
            handle, image = values["Handle"], values.get("Image Src", "")
            shared = {fact: value for fact, value in values.items() if fact in SHARED or fact.endswith(" Name")}
        if values.get("Title") or values.get("Variant SKU") or values.get("Variant Price"):
            yield RawRow(row.number, _to_variant(values, handle, shared, image))


def _to_variant(values: dict[str, str], handle: str, shared: dict[str, str], image: str) -> dict[str, object]:
    options = {
        shared[f"{option} Name"]: values[f"{option} Value"]
        for option in OPTIONS
        if shared.get(f"{option} Name") and values.get(f"{option} Value", "Default Title") not in ("", "Default Title")
    }
    return {
        "sku": values.get("Variant SKU") or "-".join([handle, *options.values()]),
        "title": shared.get("Title", ""),
        "description": shared.get("Body (HTML)", ""),
        "brand": shared.get("Vendor", ""),
        "category": shared.get("Product Category") or shared.get("Type", ""),
        "price": values.get("Variant Price", ""),
        "gtin": values.get("Variant Barcode", "").strip("'"),
        "image": values.get("Variant Image") or image,
        "stock": values.get("Variant Inventory Qty", ""),
        "active": shared.get("Status") or shared.get("Published", ""),
        "attributes": options,
    }
