"""Which format a file has, by its content first and its name second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from catalog.readers import delimited, google, jsons, parquet, shopify
from catalog.readers.base import FORMATS, ImportRefused, RawRow, RowSource, guard_rows, open_bytes, read_sample
from catalog.readers.encodings import decode_sample

LINES_SUFFIXES = {".jsonl", ".ndjson"}


@contextmanager
def open_rows(path: Path, format: str | None = None, name: str = "") -> Iterator[RowSource]:
    """Give the rows of `path`; its format is found out unless given. `name`: what people call the file.

    Raises ImportRefused, also while the rows are read, for a file that is not what it should be.
    """
    if format is not None and format not in FORMATS:
        raise ImportRefused(f"unknown format {format!r}, expected one of: {', '.join(FORMATS)}")
    name = Path(name or path).name
    sample = read_sample(path, name)
    format = format or detect_format(sample, name)
    bytes_total = path.stat().st_size
    with open_bytes(path) as (content, raw):
        tell = raw.tell
        if format == "parquet":
            table = parquet.ParquetRows(content, name)
            rows, tell = iter(table), lambda: int(table.share * bytes_total)
        else:
            rows = _read_text(content, sample, format, name)
        with closing(guard_rows(rows, name)) as guarded:  # before the file is
            yield RowSource(format, guarded, bytes_total, tell)


def _read_text(content: IO[bytes], sample: bytes, format: str, name: str) -> Iterator[RawRow]:
    if format in ("jsonl", "json"):
        return jsons.read_rows(content, sample, format, name)
    if format == "google-xml":
        return google.read_rows(content, name)
    rows = delimited.read_rows(content, sample, format, name)
    return shopify.join_variants(rows, name) if format == "shopify" else rows


def detect_format(sample: bytes, name: str) -> str:
    """Return the format that `sample`, the beginning of the file, has; raises ImportRefused for what is none."""
    if sample.startswith(parquet.MAGIC):
        return "parquet"
    text = decode_sample(sample, name)[0].lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return "json"
    if text.startswith("{"):
        # One object over many lines is an array's wrapper, one a line is JSON Lines.
        is_lines = LINES_SUFFIXES & set(Path(name.lower()).suffixes) or jsons.is_lines(text)
        return "jsonl" if is_lines else "json"
    if text.startswith("<"):
        return _detect_markup(text, name)
    header = delimited.read_header(text)
    if shopify.is_export(header):
        return "shopify"
    return "tsv" if delimited.find_delimiter(text) == "\t" else "csv"


def _detect_markup(text: str, name: str) -> str:
    if any(mark in text[:2000].lower() for mark in ("<!doctype html", "<html")):
        raise ImportRefused(f"{name} is a web page, perhaps of an error or a login; fetch the feed itself")
    return "google-xml"
