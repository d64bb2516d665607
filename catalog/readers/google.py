"""Google Merchant feeds in XML: RSS 2.0 and Atom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from catalog.readers.base import ImportRefused, RawRow

ITEMS = ("item", "entry")
# Given several times for one product: the first counts, as in the feed's own rules.
NESTED = ("product_detail", "shipping", "tax", "installment")


def read_rows(content: IO[bytes], name: str) -> Iterator[RawRow]:
    """Yield one row per item; raises ImportRefused for broken XML or none with items."""
    number = 0
    try:
        path: list[Any] = []
        for event, element in iterparse(content, events=("start", "end")):
            if event == "start":
                path.append(element)
                continue
            path.pop()
            if _local(element.tag) in ITEMS:
                number += 1
                yield RawRow(number, _to_values(element))
                path[-1].remove(element) if path else None  # memory does not grow with the feed
    except (ParseError, DefusedXmlException) as error:
        raise ImportRefused(f"{name} is no sound XML ({error}); what came before was read") from error
    if not number:
        raise ImportRefused(f"{name} has no <item> or <entry>; expected a Google Merchant feed in RSS 2.0 or Atom")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _to_values(item: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for child in item:
        name = _local(child.tag)
        if name == "product_detail":
            detail = {_local(part.tag): (part.text or "").strip() for part in child}
            values.setdefault("attributes", {})[detail.get("attribute_name", "")] = detail.get("attribute_value", "")
        elif name not in NESTED:
            values.setdefault(name, (child.text or "").strip())
    return values
