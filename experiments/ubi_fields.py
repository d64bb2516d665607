"""Reading one JSON object field by field, and telling all that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.utils.dateparse import parse_datetime

MAX_ATTRIBUTES = 10_000  # characters of JSON

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Problem:
    field: str
    value: Any
    reason: str


class UbiError(ValueError):
    """What came in is no event, or no query, of UBI; `problems` says why, field by field."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{one.field} {one.value!r:.80}: {one.reason}" for one in self.problems))


class Fields:
    """Reads the fields of one JSON object, and keeps what is wrong with each."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "", problems: list[Problem] | None = None) -> None:
        self.left = dict(values)
        self._prefix = prefix
        self.problems = [] if problems is None else problems

    def refuse(self, name: str, value: Any, reason: str) -> None:
        self.problems.append(Problem((self._prefix + name).rstrip("."), value, reason))

    def text(self, name: str, limit: int, *, is_needed: bool = False) -> str:
        value = self.left.pop(name, None)
        if value is None or value == "":
            if is_needed:
                self.refuse(name, value, "is missing")
            return ""
        if isinstance(value, int) and not isinstance(value, bool):  # UBI has ids that are numbers
            value = str(value)
        if not isinstance(value, str) or len(value) > limit:
            self.refuse(name, value, f"expected a text of at most {limit} characters")
            return ""
        return value

    def number(self, name: str, default: int | None, most: int, least: int = 0) -> int | None:
        value = self.left.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(name, value, f"expected a whole number from {least} to {most}")
            return default
        return value

    def decimal(self, name: str) -> float | None:
        value = self.left.pop(name, None)
        if value is None:
            return None
        try:
            found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
        except OverflowError:
            found = math.inf
        if not 0 <= found < math.inf:
            self.refuse(name, value, "expected a number, 0 or more")
            return None
        return found

    def flag(self, name: str) -> bool:
        value = self.left.pop(name, False)
        if not isinstance(value, bool):
            self.refuse(name, value, "expected true or false")
        return value is True

    def time(self, name: str, *, is_needed: bool = False) -> str:
        value = self.left.pop(name, None)
        if value is None and not is_needed:
            return ""
        try:
            found = parse_datetime(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found is None:
            self.refuse(name, value, "expected a time of ISO 8601, such as 2026-03-01T09:30:00Z")
            return ""
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()

    def part(self, name: str) -> Fields:
        """Return the fields of an object inside."""
        value = self.left.pop(name, None)
        if value is not None and not isinstance(value, dict):
            self.refuse(name, value, "expected an object")
        return Fields(value if isinstance(value, dict) else {}, f"{self._prefix}{name}.", self.problems)

    def currency(self, name: str) -> str:
        value = self.left.pop(name, None) or ""
        if value and not (isinstance(value, str) and _CURRENCY.fullmatch(value)):
            self.refuse(name, value, "expected three capital letters, such as USD")
            return ""
        return str(value)

    def texts(self, name: str, most: int) -> list[str]:
        value = self.left.pop(name, None) or []
        if not isinstance(value, list) or len(value) > most or not all(isinstance(one, str) for one in value):
            self.refuse(name, "…", f"expected a list of at most {most:,} texts")
            return []
        return value

    def drop(self, name: str) -> None:
        """Leave out a field, whatever it holds."""
        self.left.pop(name, None)

    def keep_left(self) -> dict[str, Any]:
        """Return what was not read, to be kept as it is."""
        if len(json.dumps(self.left)) > MAX_ATTRIBUTES:
            self.refuse("", "…", f"expected at most {MAX_ATTRIBUTES:,} characters of JSON")
        return self.left


def open_fields(value: object) -> Fields:
    """Return the fields of a JSON object; raises UbiError for anything else, and for what no database keeps."""
    if not isinstance(value, dict):
        raise UbiError([Problem("", value, "expected a JSON object")])
    if not is_storable(value):
        raise UbiError(
            [Problem("", "…", "a text has a NUL character or half of a surrogate pair, or a number is too large")]
        )
    return Fields(value)


def hash_value(value: object) -> str:
    """Return an id that is the same for what says the same."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_storable(value: object) -> bool:
    """Return whether a JSON value holds nothing that a database refuses: NUL, halves of characters, infinity."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(is_storable(name) and is_storable(part) for name, part in value.items())
    return not isinstance(value, list) or all(map(is_storable, value))
