"""Single values of a file's rows as what a product has: text, numbers, dates, yes and no; or a named error."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.utils.html import strip_tags

MAX_LENGTHS = {"sku": 100, "title": 1000, "description": 200_000, "brand": 200, "image_url": 2000, "gtin": 50}
TRUE = {"true", "yes", "y", "1", "t", "active", "enabled", "published", "on"}
FALSE = {"false", "no", "n", "0", "f", "draft", "archived", "inactive", "disabled", "unpublished", "off"}
# Words that feeds have in place of a number of pieces: None is "not tracked".
AVAILABILITY = {
    "in stock": None, "in_stock": None, "instock": None, "available": None, "yes": None, "true": None,
    "preorder": None, "backorder": None, "out of stock": 0, "out_of_stock": 0, "outofstock": 0, "sold out": 0,
    "unavailable": 0, "no": 0, "false": 0,
}  # fmt: skip
# [^<>]: a text full of < and without > must not be read from each of them to its end.
_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_BLOCK_END = re.compile(r"(?i)<(?:br|/p|/div|/li|/h[1-6]|/tr)\b[^<>]*>")
_THOUSANDS = re.compile(r"\d{1,3}(?:[,'’ \u00a0\u202f]\d{3})+")
_ADDRESS = re.compile(r"(?i)https?://[^\s/?#]|/(?![/\\])")
UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


class RowError(Exception):
    """A row that cannot be imported: the column, its value and the reason."""

    def __init__(self, column: str, value: object, reason: str, row: int = 0) -> None:
        super().__init__(f"{column} {value!r:.80}: {reason}")
        self.column, self.value, self.reason, self.row = _shown(column), _shown(value), reason, row


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return UNSAFE.sub("\ufffd", text)[:500]


def is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, str) and not value.strip())


def parse_text(column: str, value: Any, name: str) -> str:
    """Return `value` as text that fits the field; raises RowError where it does not or has control characters."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a spreadsheet's idea of a number
    text = value if isinstance(value, str) else _number_to_text(column, value)
    if unsafe := UNSAFE.search(text):
        raise RowError(column, text, f"has the character U+{ord(unsafe[0]):04X}, which is no text; check the encoding")
    text = text.strip() if name == "description" else " ".join(text.split())
    if len(text) > MAX_LENGTHS[name]:
        raise RowError(column, text, f"has {len(text):,} characters, expected at most {MAX_LENGTHS[name]:,}")
    return text


def _number_to_text(column: str, value: Any) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise RowError(column, value, "expected a text")
    return str(value)


def _text_parser(name: str) -> Callable[[str, Any], str]:
    return lambda column, value: parse_text(column, value, name)


def parse_title(column: str, value: Any) -> str:
    title = parse_text(column, _to_plain(column, value, "title"), "title")
    if not title:
        raise RowError(column, value, "every product needs a title")
    return title


def parse_description(column: str, value: Any) -> str:
    return parse_text(column, _to_plain(column, value, "description"), "description")


def _to_plain(column: str, value: Any, name: str) -> Any:
    """Return the text of HTML: paragraphs and list items become lines."""
    if not isinstance(value, str) or not ("<" in value or "&" in value):
        return value
    if len(value) > 4 * MAX_LENGTHS[name]:
        raise RowError(column, value, f"has {len(value):,} characters, expected at most {MAX_LENGTHS[name]:,}")
    try:
        text = strip_tags(_BLOCK_END.sub("\n", value)) if _TAG.search(value) else value
    except SuspiciousOperation as error:
        raise RowError(column, value, "is no sound HTML: tags are opened and never closed") from error
    return re.sub(r"\n\s*\n+", "\n", html.unescape(text))


def parse_image_url(column: str, value: Any) -> str:
    url = parse_text(column, value, "image_url")
    if url and not _ADDRESS.match(url):
        raise RowError(column, url, "expected an address beginning with https://, http:// or /")
    return url


def parse_number(column: str, value: Any, low: float, high: float) -> float:
    """Return a finite number from `low` to `high`; raises RowError."""
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise RowError(column, value, f"expected a number from {low:g} to {high:g}")
    return number


def _join_thousands(value: Any) -> Any:
    """Return '1,234' as '1234': where pieces are counted, a comma before three digits is no decimal comma."""
    if isinstance(value, str) and _THOUSANDS.fullmatch(value.strip()):
        return re.sub(r"\D", "", value)
    return value


def parse_rating(column: str, value: Any) -> float | None:
    return None if value is None else parse_number(column, value, 0, 5)


def parse_count(column: str, value: Any) -> int:
    return 0 if value is None else int(parse_number(column, _join_thousands(value), 0, 2_000_000_000))


def parse_popularity(column: str, value: Any) -> float:
    return 0.0 if value is None else parse_number(column, _join_thousands(value), -1e15, 1e15)


def parse_stock(column: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip().casefold() in AVAILABILITY:
        return AVAILABILITY[value.strip().casefold()]
    # Sold more than there was: shops write that as a negative number.
    return max(int(parse_number(column, _join_thousands(value), -2_000_000_000, 2_000_000_000)), 0)


def parse_released(column: str, value: Any) -> date | None:
    if value is None or isinstance(value, date):
        return value.date() if isinstance(value, datetime) else value
    text = str(value).strip()
    try:
        return date.fromisoformat(text[:10] if text[10:11] in ("T", " ") else text)
    except ValueError as error:
        raise RowError(column, value, "expected a date such as 2025-01-31") from error


def parse_active(column: str, value: Any) -> bool:
    word = str(value).strip().casefold()
    if value is None or word in TRUE:
        return True
    if word in FALSE:
        return False
    raise RowError(column, value, "expected yes or no")


# Every field but SKU, price, category and attributes, which need more than their own value.
PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "title": parse_title,
    "description": parse_description,
    "brand": _text_parser("brand"),
    "image_url": parse_image_url,
    "gtin": _text_parser("gtin"),
    "rating": parse_rating,
    "rating_count": parse_count,
    "stock": parse_stock,
    "popularity": parse_popularity,
    "released": parse_released,
    "active": parse_active,
}
