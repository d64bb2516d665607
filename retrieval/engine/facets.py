"""Filters, counts and orders over a result set. All speak of the same set, so that a promised count comes true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine.columns import UNKNOWN_DAY, UNKNOWN_PRICE, Columns, Rows
from retrieval.engine.types import Facet, FacetValue, Filters, Sort

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[np.intp]
MAX_VALUES = 12  # of one facet; what is selected is always shown
MAX_ATTRIBUTES = 8
RATING_STEPS = (4.0, 3.0, 2.0)


def filter_masks(columns: Columns, rows: Rows, filters: Filters) -> dict[str, Mask]:
    """Return for each filtered field which of `rows` pass it. A field that is not filtered has no mask."""
    masks: dict[str, Mask] = {}
    if filters.category:
        masks["category"] = _in_subtree(columns, filters.category)[columns.category_codes[rows]]
    if filters.brands:
        wanted = [code for brand in filters.brands for code in columns.brand_codes_of(brand)]
        masks["brand"] = np.isin(columns.brand_codes[rows], wanted)
    if filters.price_min_cents is not None or filters.price_max_cents is not None:
        masks["price"] = _in_price_range(columns.prices[rows], filters.price_min_cents, filters.price_max_cents)
    if filters.rating_min is not None:
        masks["rating"] = columns.ratings[rows] >= filters.rating_min
    if filters.in_stock:
        masks["stock"] = columns.in_stock[rows]
    for name, values in filters.attributes:
        masks[f"attr.{name}"] = _has_attribute(columns, rows, name, values)
    return masks


def _in_subtree(columns: Columns, path: str) -> Mask:
    return np.array([own == path or own.startswith(path + "/") for own, _ in columns.categories], bool)


def _in_price_range(prices: npt.NDArray[np.int64], low: int | None, high: int | None) -> Mask:
    mask: Mask = prices != UNKNOWN_PRICE
    if low is not None:
        mask &= prices >= low
    if high is not None:
        mask &= prices <= high
    return mask


def _has_attribute(columns: Columns, rows: Rows, name: str, values: tuple[str, ...]) -> Mask:
    wanted = [code for value in values for code in columns.attribute_codes_of(name, value)]
    codes, owners = columns.pairs_of(rows)
    mask: Mask = np.zeros(len(rows), bool)
    mask[owners[np.isin(codes, wanted)]] = True
    return mask


def combine(masks: dict[str, Mask], size: int, *, leave_out: str = "") -> Mask:
    """Return which rows pass all masks but the one of field `leave_out`."""
    combined = np.ones(size, bool)
    for name, mask in masks.items():
        if name != leave_out:
            combined &= mask
    return combined


def sort_rows(columns: Columns, rows: Rows, sort: Sort) -> npt.NDArray[np.intp]:
    """Return the order of `rows`, given in order of relevance: equals keep it, unknown values come last."""
    if sort is Sort.RELEVANCE:
        return np.arange(len(rows))
    keys: dict[Sort, Callable[[], npt.NDArray[np.float64]]] = {
        Sort.PRICE_ASC: lambda: _known(columns.prices[rows], UNKNOWN_PRICE),
        Sort.PRICE_DESC: lambda: -_known(columns.prices[rows], UNKNOWN_PRICE),
        Sort.RATING: lambda: -columns.ratings[rows].astype(np.float64),
        Sort.NEWEST: lambda: -_known(columns.released[rows], UNKNOWN_DAY),
    }
    return np.argsort(keys[sort](), kind="stable")  # nan sorts last


def _known(values: npt.NDArray[np.integer], unknown: int) -> npt.NDArray[np.float64]:
    return np.where(values == unknown, np.nan, values)


@dataclass(frozen=True)
class FacetCounter:
    """Counts what each choice would show. A field's own filter does not narrow its own values."""

    columns: Columns
    rows: Rows
    masks: dict[str, Mask]
    filters: Filters

    def count(self) -> tuple[Facet, ...]:
        """Return the facets that have something to choose, most useful first."""
        facets = [self._categories(), self._brands(), self._prices(), self._ratings(), self._stock()]
        return tuple(facet for facet in (*facets, *self._attributes()) if facet.values)

    def _rows_for(self, field: str) -> Rows:
        return self.rows[combine(self.masks, len(self.rows), leave_out=field)]

    def _categories(self) -> Facet:
        codes, counts = np.unique(self.columns.category_codes[self._rows_for("category")], return_counts=True)
        totals: dict[str, int] = {}
        names: dict[str, str] = {}
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            path, labels = self.columns.categories[code]
            slugs = path.split("/") if path else []
            for depth, label in zip(range(1, len(slugs) + 1), labels, strict=False):
                node = "/".join(slugs[:depth])
                names[node] = label
                totals[node] = totals.get(node, 0) + count
        selected = self.filters.category
        values = [
            FacetValue(node, names[node], count, node == selected, node.count("/"))
            for node, count in totals.items()
            if self._is_open(node, selected)
        ]
        return Facet("category", "Category", tuple(_sort_tree(values)))

    @staticmethod
    def _is_open(node: str, selected: str) -> bool:
        """Roots, the selected category with those above it, and their children's neighbours are shown."""
        parent = node.rpartition("/")[0]
        return not parent or selected == parent or selected.startswith(parent + "/")

    def _brands(self) -> Facet:
        tally = Tally.of(self.columns.brand_codes[self._rows_for("brand")])
        names = self.columns.brands
        selected = [code for brand in self.filters.brands for code in self.columns.brand_codes_of(brand)]
        values = [
            FacetValue(names[code], names[code], count, code in selected)
            for code, count in tally.most_frequent(selected)
            if names[code]
        ]
        return Facet("brand", "Brand", tuple(values))

    def _prices(self) -> Facet:
        prices = self.columns.prices[self._rows_for("price")]
        prices = prices[prices != UNKNOWN_PRICE]
        if len(prices) < 2 or prices.min() == prices.max():
            return Facet("price", "Price", ())
        edges = _price_edges(prices)
        counts = np.histogram(prices, [*edges, np.inf])[0].tolist()
        uppers = [*(edge - 1 for edge in edges[1:]), None]
        values = [self._price_range(*row) for row in zip(edges, uppers, counts, strict=True) if row[2]]
        return Facet("price", "Price", tuple(values) if len(values) > 1 or "price" in self.masks else ())

    def _price_range(self, low: int, high: int | None, count: int) -> FacetValue:
        value = f"{low}-{'' if high is None else high}"
        is_selected = (self.filters.price_min_cents or 0, self.filters.price_max_cents) == (low, high)
        return FacetValue(value, value, count, is_selected and "price" in self.masks)

    def _ratings(self) -> Facet:
        ratings = self.columns.ratings[self._rows_for("rating")]
        values = [
            FacetValue(f"{step:g}", f"{step:g} stars and up", count, self.filters.rating_min == step)
            for step in RATING_STEPS
            if (count := int((ratings >= step).sum()))
        ]
        return Facet("rating", "Rating", tuple(values))

    def _stock(self) -> Facet:
        rows = self._rows_for("stock")
        count = int(self.columns.in_stock[rows].sum())
        is_choice = self.filters.in_stock or 0 < count < len(rows)
        values = (FacetValue("1", "In stock", count, self.filters.in_stock),) if is_choice else ()
        return Facet("stock", "Availability", values)

    def _attributes(self) -> list[Facet]:
        if not self.columns.attributes:
            return []
        filtered = dict(self.filters.attributes)
        spelt = {self.columns.spell_attribute(name) for name in filtered}
        facets = [
            self._attribute(name, self._count_pairs(self._rows_for(f"attr.{name}")), values)
            for name, values in filtered.items()
        ]
        tally = self._count_pairs(self._rows_for(""))
        names = [name for name in self._useful_attributes(tally) if name not in spelt]
        free = max(MAX_ATTRIBUTES - len(facets), 0)
        return facets + [self._attribute(name, tally, ()) for name in names[:free]]

    def _count_pairs(self, rows: Rows) -> Tally:
        return Tally.of(self.columns.pairs_of(rows)[0])

    def _attribute(self, name: str, tally: Tally, chosen: tuple[str, ...]) -> Facet:
        names, owners = self.columns.attribute_names
        selected = [code for value in chosen for code in self.columns.attribute_codes_of(name, value)]
        of_name = owners[tally.codes] == names.get(self.columns.spell_attribute(name), -1)
        values = [
            FacetValue(self.columns.attributes[code][1], self.columns.attributes[code][1], count, code in selected)
            for code, count in tally.only(of_name).most_frequent(selected)
        ]
        return Facet(f"attr.{name}", name[:1].upper() + name[1:], tuple(values))

    def _useful_attributes(self, tally: Tally) -> list[str]:
        """Return the names by which the results split best: known of many, few values, none of them nearly all."""
        size = len(self._rows_for(""))
        names, owners = self.columns.attribute_names
        owners, counts = owners[tally.codes], tally.counts
        known = np.bincount(owners, weights=counts, minlength=len(names))
        largest = np.zeros(len(names))
        np.maximum.at(largest, owners, counts)
        repeated = np.bincount(owners, weights=np.where(counts > 1, counts, 0), minlength=len(names))
        # Products told apart by a value that others share, where at least a fifth of the results have the name.
        usefulness = np.where(known >= 0.2 * size, np.minimum(repeated, known - largest), 0)
        best = np.argsort(-usefulness, kind="stable")[:MAX_ATTRIBUTES].tolist()
        spelt = list(names)
        return [spelt[code] for code in best if usefulness[code] >= max(1, 0.05 * size)]


@dataclass(frozen=True, slots=True)
class Tally:
    """Codes found, ascending and each once, and how often."""

    codes: Codes
    counts: Counts

    @classmethod
    def of(cls, codes: npt.NDArray[np.int32]) -> Tally:
        counts = np.bincount(codes)
        found = np.flatnonzero(counts)
        return cls(found, counts[found])

    def only(self, mask: Mask) -> Tally:
        return Tally(self.codes[mask], self.counts[mask])

    def most_frequent(self, selected: list[int]) -> list[tuple[int, int]]:
        """Return the codes found most, with their counts, after the selected ones, which are always there."""
        chosen = dict.fromkeys(selected, 0)
        best = np.argsort(-self.counts, kind="stable")
        found = dict(zip(self.codes[best].tolist(), self.counts[best].tolist(), strict=True))
        return list((chosen | found).items())[: max(MAX_VALUES, len(chosen))]


def _sort_tree(values: list[FacetValue]) -> list[FacetValue]:
    """Return the values with children behind their parent, largest first among brothers."""
    by_parent: dict[str, list[FacetValue]] = {}
    for value in sorted(values, key=lambda value: (-value.count, value.label)):
        by_parent.setdefault(value.value.rpartition("/")[0], []).append(value)

    def walk(parent: str) -> list[FacetValue]:
        return [node for value in by_parent.get(parent, []) for node in (value, *walk(value.value))]

    return walk("")


def _price_edges(prices: npt.NDArray[np.int64]) -> list[int]:
    """Return the lower ends of up to five price ranges, round figures near the quintiles."""
    edges = {0}
    for quantile in np.quantile(prices, (0.2, 0.4, 0.6, 0.8)):
        magnitude = 10 ** int(np.log10(max(quantile, 1)))
        step = magnitude / 2 if magnitude >= 2 else 1
        edges.add(int(round(quantile / step) * step))
    return sorted(edges)
