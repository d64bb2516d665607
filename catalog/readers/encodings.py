"""Which encoding a text file has."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO

from charset_normalizer import from_bytes

from catalog.readers.base import ImportRefused

BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
LATIN = ["cp1252", "cp1250", "cp1254"]
OTHERS = ["cp1251", "cp1253", "cp1255", "cp1256", "koi8_r", "cp932", "euc_jp", "cp949", "gb18030", "big5"]
GUESS_LINES = 500
CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))  # what no text has
_HIGH = re.compile(rb"[\x80-\xff]+")


@contextmanager
def as_text(content: IO[bytes], encoding: str) -> Iterator[io.TextIOWrapper]:
    """Give `content` as text. What is no valid text becomes lone surrogates, and its row is rejected later."""
    wrapper = io.TextIOWrapper(content, encoding=encoding, errors="surrogateescape", newline="")
    try:
        yield wrapper
    finally:
        if not content.closed:
            wrapper.detach()  # the bytes belong to whoever opened them


def decode_sample(sample: bytes, name: str) -> tuple[str, str]:
    """Return the text of `sample` and its encoding; raises ImportRefused for what is no text."""
    for bom, encoding in BOMS:
        if sample.startswith(bom):
            return sample.decode(encoding, "ignore"), encoding
    if encoding := _find_utf16(sample):
        return sample.decode(encoding, "ignore"), encoding
    controls = len(sample) - len(sample.translate(None, CONTROLS))
    if controls > 4 + len(sample) / 100:  # fewer are a slip in some rows
        raise ImportRefused(f"{name} is no text file; expected CSV, TSV, JSON, XML or Parquet, plain or gzip")
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(sample), "utf-8"
    except UnicodeDecodeError:
        encoding = guess_encoding(sample)
        return sample.decode(encoding, "replace"), encoding


def _find_utf16(sample: bytes) -> str:
    """Return the encoding of UTF-16 without a byte order mark: every other byte of its commas and digits is 0."""
    head = sample[:4000]
    for encoding, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if zeros.count(0) > 0.6 * len(zeros) and not others.count(0):
            return encoding
    return ""


def guess_encoding(sample: bytes) -> str:
    """Return the likeliest encoding of a text before Unicode.

    Statistics confuse the Western code page with its neighbours on the few accents of a product list, so letters
    that stand alone among ASCII are Western unless they make markedly less sense so.
    """
    lines = b"\n".join(islice((line for line in sample.splitlines() if not line.isascii()), GUESS_LINES))
    runs = [len(run) for run in _HIGH.findall(lines)]
    is_latin = sum(run for run in runs if run > 3) < 0.3 * sum(runs)
    found = from_bytes(lines, cp_isolation=LATIN if is_latin else OTHERS, threshold=0.9)
    best = found.best()
    if best is None:
        return "cp1252"
    if is_latin and any("cp1252" in match.could_be_from_charset and match.chaos < best.chaos + 0.02 for match in found):
        return "cp1252"
    return best.encoding
