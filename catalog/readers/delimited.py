"""CSV and TSV, whatever their delimiter."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO

from catalog.readers.base import ImportRefused, RawRow, read_lines
from catalog.readers.encodings import as_text, decode_sample

DELIMITERS = (",", "\t", ";", "|")
MAX_FIELD = 1_000_000  # characters; more is a quotation mark that was never closed
HEADER_CHARACTERS = 100_000
_NAMED_DELIMITER = re.compile(r"\s*sep=(.)[\r\n]")  # a first line that Excel writes and understands


def read_rows(content: IO[bytes], sample: bytes, format: str, name: str) -> Iterator[RawRow]:
    """Yield the rows below the header; raises ImportRefused when there is no usable header."""
    text, encoding = decode_sample(sample, name)
    delimiter = "\t" if format in ("tsv", "google-tsv") else find_delimiter(text)
    csv.field_size_limit(MAX_FIELD)
    with as_text(content, encoding) as stream:
        lines = read_lines(stream, name)
        if _NAMED_DELIMITER.match(text):
            next(lines)
        reader = csv.reader(lines, delimiter=delimiter)
        yield from _read_fields(reader, _check_header(_next_filled(reader, name), delimiter, name))


def _next_filled(reader: Iterator[list[str]], name: str) -> list[str]:
    """Return the first line that is not empty."""
    try:
        return next((fields for fields in reader if any(fields)), [])
    except csv.Error as error:
        told = f"{name} has no header that can be read ({error}); perhaps a quotation mark is not closed"
        raise ImportRefused(told) from error


def _read_fields(reader: Iterator[list[str]], header: list[str]) -> Iterator[RawRow]:
    number, width = 0, len(header)
    while True:
        number += 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield RawRow(number, error=f"cannot be read ({error}); perhaps a quotation mark is not closed")
            continue
        if not any(fields):
            number -= 1  # an empty line is no row
            continue
        values = dict(zip(header, fields, strict=False))
        if any(fields[width:]):
            yield RawRow(number, values, f"has {len(fields)} fields where the header has {width}")
        else:
            yield RawRow(number, values)


def _check_header(header: list[str], delimiter: str, name: str) -> list[str]:
    header = [column.strip() for column in header]
    twice = [column for column, count in Counter(filter(None, header)).items() if count > 1]
    if twice:
        raise ImportRefused(f"{name} has two columns named {twice[0]!r:.80}; rename one of them")
    if len(header) < 2:
        shown = {"\t": "tab"}.get(delimiter, delimiter)
        raise ImportRefused(
            f"{name} has only the column {header[0] if header else ''!r:.80} when split at {shown!r}; "
            "expected a header with a SKU and at least one more column"
        )
    return header


def find_delimiter(text: str) -> str:
    """Return the delimiter that `text` names, else the one that splits its first line into the most columns."""
    if named := _NAMED_DELIMITER.match(text):
        return named[1]
    return max(DELIMITERS, key=lambda delimiter: len(read_header(text, delimiter)))


def read_header(text: str, delimiter: str | None = None) -> list[str]:
    """Return the columns of the first line that is not empty."""
    lines = io.StringIO(_NAMED_DELIMITER.sub("", text[:HEADER_CHARACTERS], count=1).lstrip("\r\n"), newline="")
    try:
        return [column.strip() for column in next(csv.reader(lines, delimiter=delimiter or find_delimiter(text)), [])]
    except csv.Error:
        return []
