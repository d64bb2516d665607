"""From a row of a file to the fields of a product, or a named error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from catalog.columns import IGNORE, ColumnMap, fold
from catalog.models import build_path
from catalog.prices import parse_currency, parse_price
from catalog.values import PARSERS, UNSAFE, RowError, is_empty, parse_text

__all__ = ["ProductRow", "RowError", "find_sku", "parse_attributes", "parse_row"]

MAX_CATEGORY_NAME, MAX_CATEGORY_DEPTH, MAX_CATEGORY_PATH = 200, 8, 700
MAX_ATTRIBUTES, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE_VALUE = 500, 200, 50_000


@dataclass(frozen=True, slots=True)
class ProductRow:
    """The fields a row gives for one product; what it does not mention stays as it is."""

    number: int
    sku: str
    values: dict[str, Any] = field(default_factory=dict)  # by field of Product
    category: tuple[str, ...] | None = None  # names, root first

    def over(self, earlier: ProductRow | None) -> ProductRow:
        """Return this row with what it does not mention from an earlier one for the same SKU."""
        if earlier is None:
            return self
        category = earlier.category if self.category is None else self.category
        return replace(self, values=earlier.values | self.values, category=category)


def parse_row(number: int, raw: Mapping[str, Any], columns: ColumnMap, currency: str) -> ProductRow:
    """Return the product of a row; raises RowError. `currency` is the one of prices that name none."""
    found: dict[str, tuple[int, str, Any]] = {}
    attributes: dict[str, str] = {}
    has_attributes = False
    for column, value in raw.items():
        target, rank = columns.target(str(column))
        if target == IGNORE:
            continue
        if target.startswith("attributes."):
            has_attributes = True
            _add_attribute(attributes, target.removeprefix("attributes."), value, str(column))
        elif target not in found or _is_better(rank, value, found[target]):
            found[target] = (rank, str(column), value)
    given = {name: (column, value) for name, (_, column, value) in found.items()}
    sku = _parse_sku(given)
    values = _parse_fields(given, currency)
    if "attributes" in given:
        has_attributes = True
        attributes |= parse_attributes(*given["attributes"])
    if has_attributes:
        if len(attributes) > MAX_ATTRIBUTES:
            raise RowError("attributes", len(attributes), f"expected at most {MAX_ATTRIBUTES} attributes")
        values["attributes"] = attributes
    category = _parse_category(*given["category"]) if "category" in given else None
    return ProductRow(number, sku, values, category)


def _is_better(rank: int, value: Any, other: tuple[int, str, Any]) -> bool:
    """The surer column counts, but an empty one gives way to one that says something."""
    if is_empty(value) != is_empty(other[2]):
        return is_empty(other[2])
    return rank < other[0]


def _parse_sku(given: Mapping[str, tuple[str, Any]]) -> str:
    column, value = given.get("sku", ("sku", None))
    sku = "" if is_empty(value) else parse_text(column, value, "sku")
    if not sku:
        raise RowError(column, value, "every product needs a SKU")
    return sku


def find_sku(raw: Mapping[str, Any], columns: ColumnMap) -> str:
    """Return the SKU of a row whatever is wrong with the rest of it, '' if it has none."""
    named = sorted((rank, str(name)) for name in raw for field, rank in [columns.target(str(name))] if field == "sku")
    for _, name in named:
        try:
            return _parse_sku({"sku": (name, raw[name])})
        except RowError:
            continue
    return ""


def _parse_fields(given: Mapping[str, tuple[str, Any]], currency: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, parse in PARSERS.items():
        if name in given:
            column, value = given[name]
            values[name] = parse(column, None if is_empty(value) else value)
    if "price" in given:
        column, value = given["price"]
        named = parse_currency(*given["currency"]) if "currency" in given else ""
        values["price_cents"], values["currency"] = parse_price(column, value, named, currency)
    return values


def _parse_category(column: str, value: Any) -> tuple[str, ...]:
    """Return the names on the path, root first, from a list or a text such as 'Home > Kitchen > Kettles'."""
    if is_empty(value):
        return ()
    if isinstance(value, str):
        separator = next((mark for mark in (">", "|", "/") if mark in value), ">")
        value = value.split(separator)
    if not isinstance(value, list | tuple):
        raise RowError(column, value, "expected a path such as Home > Kitchen > Kettles")
    names = tuple(filter(None, (parse_text(column, name, "description") for name in value)))
    if len(names) == 1 and names[0].isdigit() and fold(column) == "google product category":
        return ()  # a number of Google's own list says nothing to shoppers
    is_long = any(len(name) > MAX_CATEGORY_NAME for name in names) or _measure_path(names) > MAX_CATEGORY_PATH
    if len(names) > MAX_CATEGORY_DEPTH or is_long:
        raise RowError(
            column, value, f"expected at most {MAX_CATEGORY_DEPTH} names of at most {MAX_CATEGORY_NAME} characters"
        )
    return names


def _measure_path(names: tuple[str, ...]) -> int:
    """Return the most characters that the path of these names has; slugs of some scripts are longer than the name."""
    is_plain = all(map(str.isascii, names))
    return sum(max(len(name), 5) + 1 for name in names) if is_plain else len(build_path(names))


def parse_attributes(column: str, value: Any) -> dict[str, str]:
    if is_empty(value):
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(column, value, "expected a JSON object of names and values") from error
    if isinstance(value, list):  # pairs, as Parquet gives a map
        value = dict(value) if all(isinstance(pair, tuple) and len(pair) == 2 for pair in value) else value
    if not isinstance(value, dict):
        raise RowError(column, value, "expected an object of names and values")
    attributes: dict[str, str] = {}
    for name, part in value.items():
        _add_attribute(attributes, str(name), part, f"{column}.{name}")
    return attributes


def _add_attribute(attributes: dict[str, str], name: str, value: Any, column: str) -> None:
    if isinstance(value, list | tuple) and not any(isinstance(part, dict | list) for part in value):
        value = ", ".join(str(part) for part in value if not is_empty(part))
    if is_empty(value) or str(value) == "nan" or not name.strip():  # some writers have NaN for nothing
        return
    if isinstance(value, dict | list | tuple | bytes):
        raise RowError(column, value, "expected a single value, not a nested one")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 250.0 is a spreadsheet's 250
    text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).strip()
    if len(name) > MAX_ATTRIBUTE_NAME or len(text) > MAX_ATTRIBUTE_VALUE or UNSAFE.search(name + text):
        raise RowError(
            column, value, f"expected text, a name of at most {MAX_ATTRIBUTE_NAME} and a value of at most "
            f"{MAX_ATTRIBUTE_VALUE} characters",
        )  # fmt: skip
    attributes[name.strip()] = text
