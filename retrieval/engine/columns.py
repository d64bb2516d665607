"""Facts of all products in columns, so that filters, counts and sorts are array operations.

A set of products is an array of row numbers. Strings are held once, in tables; rows hold their codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engine.types import Document, Ids

Rows = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Arrays = dict[str, npt.NDArray[Any]]
ARRAYS_FILE, STRINGS_FILE = "columns.npz", "columns.json"
UNKNOWN_PRICE, UNKNOWN_DAY = -1, 0


@dataclass(frozen=True)
class Columns:
    """`attribute_codes[attribute_starts[row]:attribute_starts[row + 1]]` are the codes of a row's pairs."""

    product_ids: Ids  # ascending
    prices: npt.NDArray[np.int64]  # minor units, UNKNOWN_PRICE where not known
    ratings: npt.NDArray[np.float32]  # nan where not rated
    in_stock: npt.NDArray[np.bool_]
    released: npt.NDArray[np.int32]  # days since 1970, UNKNOWN_DAY where not known
    popularity: npt.NDArray[np.float32]
    brand_codes: Codes
    category_codes: Codes
    attribute_starts: npt.NDArray[np.int64]
    attribute_codes: Codes
    brands: list[str]  # '' where a product has none
    categories: list[tuple[str, tuple[str, ...]]]  # (path, names root first)
    attributes: list[tuple[str, str]]  # (name, value)

    def __len__(self) -> int:
        return len(self.product_ids)

    def rows_of(self, product_ids: Ids) -> Rows:
        """Return the row of each product, -1 where there is none."""
        if not len(self):
            return np.full(len(product_ids), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.product_ids, product_ids), len(self) - 1)
        return np.where(self.product_ids[rows] == product_ids, rows, -1)

    def pairs_of(self, rows: Rows) -> tuple[Codes, Rows]:
        """Return the codes of all attribute pairs of `rows`, and for each the position in `rows` it belongs to."""
        starts, ends = self.attribute_starts[rows], self.attribute_starts[rows + 1]
        lengths = ends - starts
        owners = np.repeat(np.arange(len(rows)), lengths)
        offsets = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.attribute_codes[np.repeat(starts, lengths) + offsets], owners

    def brand_codes_of(self, brand: str) -> list[int]:
        """Return the code of this brand, or of those that differ from it only in case; none are unknown."""
        codes = self._brands_by_fold.get(brand.casefold(), [])
        return [code for code in codes if self.brands[code] == brand] or codes

    def attribute_codes_of(self, name: str, value: str) -> list[int]:
        """Return the code of this pair, or of those that differ from it only in case; none are unknown."""
        names, owners = self.attribute_names
        spelt = [names[known] for known in self._names_by_fold.get(name.casefold(), ())]
        codes = [
            code
            for code in np.flatnonzero(np.isin(owners, spelt)).tolist()
            if self.attributes[code][1].casefold() == value.casefold()
        ]
        return [code for code in codes if self.attributes[code] == (name, value)] or codes

    def spell_attribute(self, name: str) -> str:
        """Return the name as the catalogue spells it, whatever its case; '' if no product has it."""
        spelt = self._names_by_fold.get(name.casefold(), [""])
        return name if name in spelt else spelt[0]

    @cached_property
    def _brands_by_fold(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for code, brand in enumerate(self.brands):
            found.setdefault(brand.casefold(), []).append(code)
        return found

    @cached_property
    def _names_by_fold(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.attribute_names[0]:
            found.setdefault(name.casefold(), []).append(name)
        return found

    @cached_property
    def attribute_names(self) -> tuple[dict[str, int], Codes]:
        """The distinct attribute names with their codes, and for each pair the code of its name."""
        names: dict[str, int] = {}
        owners = np.array([names.setdefault(name, len(names)) for name, _ in self.attributes], np.int32)
        return names, owners

    def save(self, folder: Path) -> None:
        np.savez(folder / ARRAYS_FILE, **{name: getattr(self, name) for name in _ARRAYS})
        strings = {"brands": self.brands, "categories": self.categories, "attributes": self.attributes}
        (folder / STRINGS_FILE).write_text(json.dumps(strings), encoding="ascii")

    @classmethod
    def load(cls, folder: Path) -> Columns:
        strings = json.loads((folder / STRINGS_FILE).read_text(encoding="utf-8"))
        with (folder / ARRAYS_FILE).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(
                **{name: arrays[name] for name in _ARRAYS},
                brands=strings["brands"],
                categories=[(path, tuple(names)) for path, names in strings["categories"]],
                attributes=[(intern(name), value) for name, value in strings["attributes"]],
            )

    def update(self, documents: Sequence[Document], removed: Sequence[int]) -> Columns:
        """Return columns in which `documents` replace what was there and `removed` are gone."""
        gone = np.array([document.product_id for document in documents] + list(removed), np.int64)
        builder = ColumnsBuilder(self)
        builder.add_arrays(self.arrays_of(np.flatnonzero(~np.isin(self.product_ids, gone))))
        builder.add(documents)
        return builder.build()

    def arrays_of(self, rows: Rows) -> Arrays:
        """Return the arrays of these rows, with `attribute_lengths` in place of the starts."""
        arrays: Arrays = {name: getattr(self, name)[rows] for name in _ROW_TYPES}
        arrays["attribute_codes"] = self.pairs_of(rows)[0]
        arrays["attribute_lengths"] = np.diff(self.attribute_starts)[rows]
        return arrays

    def take(self, rows: Rows) -> Columns:
        """Return the columns of these rows, in this order."""
        arrays = self.arrays_of(rows)
        starts = _starts(arrays.pop("attribute_lengths"))
        return replace(self, attribute_starts=starts, **arrays)  # type: ignore[arg-type]


def build_columns(documents: Sequence[Document]) -> Columns:
    """Return the columns of these documents."""
    builder = ColumnsBuilder()
    builder.add(documents)
    return builder.build()


class _Table:
    """Values in the order they were first seen, each with its position as code."""

    def __init__(self, values: Iterable = ()) -> None:  # type: ignore[type-arg]
        self.values = list(values)
        self._codes = {value: code for code, value in enumerate(self.values)}

    def code(self, value: object) -> int:
        code = self._codes.setdefault(value, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        return code


class ColumnsBuilder:
    """Takes documents batch by batch, holding numbers only."""

    def __init__(self, start: Columns | None = None) -> None:
        self._brands = _Table(start.brands if start else ())
        self._categories = _Table(start.categories if start else ())
        self._attributes = _Table(start.attributes if start else ())
        self._parts: list[Arrays] = []

    def add(self, documents: Sequence[Document]) -> None:
        rows = [self._row(document) for document in documents]
        pairs = [[self._attributes.code(pair) for pair in document.attributes.items()] for document in documents]
        columns = zip(*rows, strict=True) if rows else ([] for _ in _ROW_TYPES)
        part: Arrays = {
            name: np.array(values, dtype) for (name, dtype), values in zip(_ROW_TYPES.items(), columns, strict=True)
        }
        part["attribute_codes"] = np.array([code for codes in pairs for code in codes], np.int32)
        part["attribute_lengths"] = np.array([len(codes) for codes in pairs], np.int64)
        self.add_arrays(part)

    def add_arrays(self, part: Arrays) -> None:
        self._parts.append(part)

    def _row(self, document: Document) -> tuple[object, ...]:
        return (
            document.product_id,
            UNKNOWN_PRICE if document.price_cents is None else document.price_cents,
            np.nan if document.rating is None else document.rating,
            document.is_in_stock,
            document.released,
            document.popularity,
            self._brands.code(document.brand),
            self._categories.code((document.category_path, tuple(document.category))),
        )

    def build(self) -> Columns:
        """Return all that was added, in ascending order of product id."""
        if not self._parts:
            self.add([])
        arrays = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        lengths = arrays.pop("attribute_lengths")
        columns = Columns(
            **arrays,
            attribute_starts=_starts(lengths),
            brands=self._brands.values,
            categories=self._categories.values,
            attributes=self._attributes.values,
        )
        return columns.take(np.argsort(columns.product_ids, kind="stable"))


_ROW_TYPES = {
    "product_ids": np.int64, "prices": np.int64, "ratings": np.float32, "in_stock": np.bool_,
    "released": np.int32, "popularity": np.float32, "brand_codes": np.int32, "category_codes": np.int32,
}  # fmt: skip
_ARRAYS = (*_ROW_TYPES, "attribute_starts", "attribute_codes")


def _starts(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
