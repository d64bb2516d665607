"""What all readers share: the rows they give, the errors they raise, and the file beneath with its progress."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "google-tsv", "google-xml", "shopify")
SAMPLE_BYTES = 1 << 20
MAX_LINE = 16_000_000  # characters; more is a file of another kind, and would fill the memory
GZIP_MAGIC = b"\x1f\x8b"
# How files begin that people take for catalogues, what they are, and the cure.
OTHER_KINDS = (
    (b"PK\x03\x04", "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook; save the sheet as CSV"),
    (b"%PDF", "is a PDF; ask for the catalogue as CSV"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it, or pack it with gzip"),
    (b"BZh91AY", "is packed with bzip2; unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "is packed with xz; unpack it, or pack it with gzip"),
)


class ImportRefused(Exception):  # noqa: N818 - said to people as such
    """A file that cannot be imported; the message names it, what is wrong and the cure."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it. `number` counts from 1, headers not included; `error` says why it cannot be read."""

    number: int
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class RowSource:
    """An open file: its format, its rows, and how many of its bytes have been read so far."""

    format: str
    rows: Iterator[RawRow]
    bytes_total: int
    tell: Callable[[], int]


@contextmanager
def open_bytes(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give the bytes of `path`, unpacked if they are gzip, and the file beneath, whose position is the progress."""
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not is_gzip:
            yield raw, raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked, raw  # type: ignore[misc]


def read_sample(path: Path, name: str) -> bytes:
    """Return the first bytes of the file's content; raises ImportRefused if there are none or they cannot be read."""
    try:
        with open_bytes(path) as (content, _):
            sample = content.read(SAMPLE_BYTES)
    except FileNotFoundError as error:
        raise ImportRefused(f"there is no file {path}") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ImportRefused(
            f"{path} cannot be read ({error.strerror}); expected a file this process may read"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise refuse_broken(name, error) from error
    if not sample.strip():
        raise ImportRefused(f"{name} is empty; expected a catalogue file with at least one product")
    for magic, told in OTHER_KINDS:
        if sample.startswith(magic):
            raise ImportRefused(f"{name} {told}")
    return sample


def guard_rows(rows: Iterator[RawRow], name: str) -> Generator[RawRow]:
    """Yield `rows`; what breaks the file beneath becomes ImportRefused."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        told = f"{name} breaks off or is no {error.encoding} text ({error.reason}); what came before was read"
        raise ImportRefused(told) from error
    except (EOFError, zlib.error, OSError) as error:
        raise refuse_broken(name, error) from error


def refuse_broken(name: str, error: Exception) -> ImportRefused:
    is_gzip = name.endswith(".gz") or isinstance(error, EOFError | gzip.BadGzipFile | zlib.error)
    kind = "gzip file" if is_gzip else "file"
    return ImportRefused(f"{name} is no whole {kind} ({error}); fetch or pack it again")


def read_lines(text: IO[str], name: str) -> Iterator[str]:
    """Yield lines with their ends; raises ImportRefused for one that does not end within MAX_LINE characters."""
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE and line[-1] not in "\r\n":
            raise ImportRefused(f"{name} has a line of more than {MAX_LINE:,} characters; expected one product a line")
        yield line
