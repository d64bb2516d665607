"""What shoppers were shown and clicked, in columns, and its sums over distinct (query, product, position)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column = Sequence[int] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """Impressions, columns of shape (rows,): codes of query and product, position from 1.

    `clicks` of `impressions` with these codes at this position were clicked: an impression counts once, however often
    it was clicked. `a + b` merges two days. Raises ValueError for columns that cannot be, and without rows.
    """

    query: Ints
    product: Ints
    position: Ints
    clicks: Ints
    impressions: Ints

    def __post_init__(self) -> None:
        _check_shapes({field.name: getattr(self, field.name) for field in fields(self)})
        _check_counts(self.position, self.clicks, self.impressions)

    def __add__(self, other: ClickLog) -> ClickLog:
        return ClickLog(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )


def build_log(
    query: Column, product: Column, position: Column, clicks: Column, impressions: Column | None = None
) -> ClickLog:
    """Return the log of whole numbers in any columns; without `impressions` each row is one.

    Raises ValueError for values that are not whole, besides what ClickLog refuses.
    """
    shown = np.ones(len(position), np.int64) if impressions is None else _to_ints("impressions", impressions)
    return ClickLog(
        _to_ints("query", query),
        _to_ints("product", product),
        _to_ints("position", position),
        _to_ints("clicks", clicks),
        shown,
    )


def _to_ints(name: str, column: Column) -> Ints:
    values = np.asarray(column)
    if values.size and not np.can_cast(values.dtype, np.int64):
        raise ValueError(f"{name} holds {values.dtype}, expected whole numbers that fit in int64")
    return values.astype(np.int64)


def _check_shapes(columns: dict[str, Ints]) -> None:
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or len(shapes["query"]) != 1:
        raise ValueError(f"columns have the shapes {shapes}, expected one dimension and the same length")
    if not len(columns["query"]):
        raise ValueError("the log has no impressions, expected at least one: shoppers must have searched first")


def _check_counts(position: Ints, clicks: Ints, impressions: Ints) -> None:
    if position.min() < 1:
        raise ValueError(f"position {position.min()} is below 1: the first result has position 1")
    if impressions.min() < 1:
        raise ValueError(f"{impressions.min()} impressions in a row, expected at least 1: leave such rows out")
    wrong = (clicks < 0) | (clicks > impressions)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row} has {clicks[row]} clicks of {impressions[row]} impressions: expected 0 to {impressions[row]}, "
            "an impression clicked twice counts once"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A log's sums: what every estimate is made from, however many impressions there were.

    `query` and `product` name the pairs, ascending, shape (pairs,); `positions` are those seen, ascending. Each cell is
    one pair at one position: `pair` and `place` point into these; `impressions` and `clicks` are its counts.
    """

    query: Ints
    product: Ints
    positions: Ints
    pair: Ints
    place: Ints
    impressions: Floats
    clicks: Floats

    def per_pair(self, values: Floats) -> Floats:
        """Return the sums of the cells' values over each pair, shape (pairs,)."""
        return sum_by(self.pair, values, len(self.query))

    def per_position(self, values: Floats) -> Floats:
        """Return the sums of the cells' values over each position, shape (positions,)."""
        return sum_by(self.place, values, len(self.positions))

    def to_log(self) -> ClickLog:
        """Return the cells as a log of as many rows: a day's sums, to be merged with another's."""
        counts = self.clicks.astype(np.int64), self.impressions.astype(np.int64)
        return ClickLog(self.query[self.pair], self.product[self.pair], self.positions[self.place], *counts)


def sum_by(index: Ints, values: Floats | Ints, length: int) -> Floats:
    """Return the sum of the values with each index below `length`."""
    return np.bincount(index, values, length).astype(np.float64, copy=False)


def sum_log(log: ClickLog) -> Cells:
    """Return the sums over distinct (query, product, position)."""
    queries, query = np.unique(log.query, return_inverse=True)
    products, product = np.unique(log.product, return_inverse=True)
    positions, place = np.unique(log.position, return_inverse=True)
    pairs, pair = np.unique(query * len(products) + product, return_inverse=True)
    keys, cell = np.unique(pair * len(positions) + place, return_inverse=True)
    return Cells(
        queries[pairs // len(products)],
        products[pairs % len(products)],
        positions,
        keys // len(positions),
        keys % len(positions),
        sum_by(cell, log.impressions, len(keys)),
        sum_by(cell, log.clicks, len(keys)),
    )


def keep_shown(cells: Cells, minimum: float) -> Cells:
    """Return the cells of pairs with at least `minimum` impressions; raises ValueError if there is none."""
    impressions = cells.per_pair(cells.impressions)
    shown = impressions >= minimum
    if not shown.any():
        raise ValueError(
            f"no product was shown {minimum:g} times for a query, at most {impressions.max():g}: wait for more searches"
        )
    kept = shown[cells.pair]
    places, place = np.unique(cells.place[kept], return_inverse=True)
    pair = (np.cumsum(shown) - 1)[cells.pair[kept]]
    counts = cells.impressions[kept], cells.clicks[kept]
    return Cells(cells.query[shown], cells.product[shown], cells.positions[places], pair, place, *counts)


@dataclass(frozen=True, slots=True, eq=False)
class PositionCurve:
    """A probability for each position, such as of a click or of being examined; positions ascend."""

    positions: Ints
    values: Floats

    def __post_init__(self) -> None:
        if len(self.positions) != len(self.values) or not len(self.values) or (np.diff(self.positions) < 1).any():
            raise ValueError("a curve needs one value for each position, positions ascending, at least one")
        if not ((self.values >= 0) & (self.values <= 1)).all():
            raise ValueError(f"a curve's values are {self.values.min()} to {self.values.max()}, expected 0 to 1")

    @classmethod
    def from_first(cls, values: Sequence[float]) -> PositionCurve:
        """Return the curve of these values for the positions 1, 2, ..."""
        return cls(np.arange(1, len(values) + 1), np.asarray(values, np.float64))

    def at(self, positions: Ints) -> Floats:
        """Return the values at these positions; raises ValueError for one the curve does not have."""
        places = np.minimum(np.searchsorted(self.positions, positions), len(self.positions) - 1)
        unknown = positions[self.positions[places] != positions]
        if len(unknown):
            known = f"{self.positions[0]} to {self.positions[-1]}"
            raise ValueError(f"the curve has no value for position {unknown[0]}, only for some or all of {known}")
        return self.values[places]
