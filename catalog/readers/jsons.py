"""JSON Lines, and JSON arrays read piece by piece, so that a file of any size takes little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from catalog.readers.base import MAX_LINE, ImportRefused, RawRow, read_lines
from catalog.readers.encodings import as_text, decode_sample

CHUNK = 1 << 16
WRAPPERS = ("products", "items", "data", "results")


def read_rows(content: IO[bytes], sample: bytes, format: str, name: str) -> Iterator[RawRow]:
    """Yield one row per object; raises ImportRefused where an array breaks off or holds something else."""
    text, encoding = decode_sample(sample, name)
    if format == "jsonl" and text.lstrip().startswith("["):
        raise ImportRefused(f"{name} is a JSON array, not JSON Lines; import it with --format json")
    with as_text(content, encoding) as reader:
        yield from _read_lines(reader, name) if format == "jsonl" else _read_array(reader, name)


def is_lines(text: str) -> bool:
    """Return whether the first line of `text` is a product of its own, not the wrapper of a list of them."""
    first, _, rest = text.partition("\n")
    try:
        item = json.loads(first)
    except (ValueError, RecursionError):
        return False
    is_wrapper = (
        not rest.strip() and isinstance(item, dict) and any(isinstance(item.get(key), list) for key in WRAPPERS)
    )
    return isinstance(item, dict) and not is_wrapper


def _read_lines(reader: IO[str], name: str) -> Iterator[RawRow]:
    number = 0
    for line in read_lines(reader, name):
        if line.strip():
            number += 1
            try:
                yield _to_row(number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield RawRow(number, error=f"is no JSON: {error}")


def _to_row(number: int, item: Any) -> RawRow:
    if not isinstance(item, dict):
        return RawRow(number, error=f"is {type(item).__name__} {item!r:.60}, expected an object")
    return RawRow(number, item)


def _read_array(reader: IO[str], name: str) -> Iterator[RawRow]:
    window = _Window(reader, name)
    window.enter_array()
    while (item := window.next_item()) is not _END:
        yield _to_row(window.items, item)


_END = object()


class _Window:
    """The part of the file being parsed: grows until the next value is whole, then lets go of it."""

    def __init__(self, reader: IO[str], name: str) -> None:
        self._reader, self._name, self._text, self._at = reader, name, "", 0
        self._decoder = json.JSONDecoder()
        self._is_wrapped = False
        self.items = 0

    def enter_array(self) -> None:
        """Go to the first item of the array, or of the list in an object such as {"products": […]}."""
        if self._peek() == "{":
            self._at += 1
            self._is_wrapped = True
            while (key := self._value()) not in WRAPPERS:
                self._expect(":", f"a list under one of: {', '.join(WRAPPERS)}")
                self._value()
                self._expect(",", f"a list under one of: {', '.join(WRAPPERS)}, found {key!r:.40}")
            self._expect(":", "a colon")
        self._expect("[", "a JSON array of products")

    def next_item(self) -> Any:
        """Return the next item of the array, _END after the last."""
        if self._peek() == "]":
            self._at += 1
            if not self._is_wrapped and self._peek():
                raise ImportRefused(
                    f"{self._name} goes on after its array ends; expected one array, the rest is not read"
                )
            return _END
        if self.items:
            self._expect(",", f"a comma after row {self.items}")
        value = self._value()
        self.items += 1
        return value

    def _peek(self) -> str:
        """Return the next character that is no white space, '' at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n\ufeff":
                self._at += 1
            if self._at < len(self._text) or not self._grow():
                return self._text[self._at : self._at + 1]

    def _expect(self, character: str, what: str) -> None:
        if self._peek() != character:
            raise ImportRefused(f"{self._name} is no catalogue in JSON: expected {what}")
        self._at += 1

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number may go on in the next chunk.
                if end < len(self._text) or not self._grow():
                    self._at = end
                    return value
            except ValueError as error:
                if len(self._text) - self._at > MAX_LINE or not self._grow():
                    why = f"after row {self.items} ({getattr(error, 'msg', error)}); what came before was read"
                    raise ImportRefused(f"{self._name} breaks off or is no JSON {why}") from error
            except RecursionError as error:
                raise ImportRefused(f"{self._name} is nested too deeply for a catalogue") from error

    def _grow(self) -> bool:
        # Twice as much each time: a value of any size is parsed a few times at most.
        chunk = self._reader.read(max(CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)
