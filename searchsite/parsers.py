"""Reading the body of a request: JSON of bounded size and nothing that a database would choke on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any, NoReturn

from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

MAX_BODY_BYTES = 5_000_000


class TooLargeError(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class StrictJSONParser(BaseParser):
    """JSON in UTF-8, at most 5 MB, without NaN, infinities, NUL characters or halves of characters."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the value; raises TooLargeError, or ParseError saying where the body is wrong."""
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError(f"The body has more than {MAX_BODY_BYTES:,} bytes: send it in parts.")
        try:
            value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
            place = find_unstorable(value) if b"\\u" in body else None
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: byte {error.start} is wrong.") from error
        except RecursionError as error:
            raise ParseError("The body is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}.") from error
        if place is not None:
            raise ParseError(f"The text at {place} has a NUL character or half of a surrogate pair: leave it out.")
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def find_unstorable(value: object, place: str = "$") -> str | None:
    """Return where, as a JSON path, a text stands that no database keeps; None when there is none."""
    if isinstance(value, str):
        return None if _is_storable(value) else place
    parts: Iterable[tuple[str, object]] = ()
    if isinstance(value, list):
        parts = ((f"{place}[{number}]", part) for number, part in enumerate(value))
    elif isinstance(value, dict):
        if not all(map(_is_storable, value)):
            return f"{place}, in a name"
        parts = ((f"{place}.{name}", part) for name, part in value.items())
    return next(filter(None, (find_unstorable(part, inner) for inner, part in parts)), None)


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
