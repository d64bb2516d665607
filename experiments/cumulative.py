"""Visitors' sums as they grew day by day, in arrays: what reports and their charts are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from experiments.analysis import PAST, Visitors

SUMS = (
    "searches", "clicked_searches", "abandoned_searches", "zero_searches", "degraded_searches", "slow_searches",
    "impressions", "clicks", "adds", "purchases", "revenue_cents", "click_rr", "net_wins",
)  # fmt: skip

BEFORE = ":before"  # in place of a variant's name, which has no colon


@dataclass(frozen=True)
class VisitorDays:
    """Rows of one visitor's day each: codes of the visitor, its variant and the day, and the sums (rows, SUMS)."""

    variants: tuple[str, ...]
    days: tuple[date, ...]  # ascending
    variant_of: npt.NDArray[np.int64]  # by visitor code
    visitor: npt.NDArray[np.int64]  # by row
    day: npt.NDArray[np.int64]  # by row
    sums: npt.NDArray[np.float64]
    past: npt.NDArray[np.float64]  # by visitor code: the same sums of the weeks before, 0 for who was not there

    def up_to_each_day(self) -> Iterator[tuple[date, dict[str, Visitors]]]:
        """Yield after each day the sums so far of everybody seen by then, by variant."""
        totals, is_seen = np.zeros((len(self.variant_of), len(SUMS))), np.zeros(len(self.variant_of), bool)
        for number, day in enumerate(self.days):
            rows = np.flatnonzero(self.day == number)
            np.add.at(totals, self.visitor[rows], self.sums[rows])
            is_seen[self.visitor[rows]] = True
            yield day, self._divide(totals, is_seen)

    def _divide(self, totals: npt.NDArray[np.float64], is_seen: npt.NDArray[np.bool_]) -> dict[str, Visitors]:
        found: dict[str, Visitors] = {}
        for number, variant in enumerate(self.variants):
            chosen = is_seen & (self.variant_of == number)
            now, past = totals[chosen], self.past[chosen]
            found[variant] = {name: now[:, place] for place, name in enumerate(SUMS)} | {
                f"{PAST}{name}": past[:, place] for place, name in enumerate(SUMS)
            }
        return found

    def find_last(self) -> dict[str, Visitors]:
        """Return the sums of everybody over all days, by variant."""
        everybody = np.zeros((len(self.variant_of), len(SUMS)))
        np.add.at(everybody, self.visitor, self.sums)
        return self._divide(everybody, np.ones(len(self.variant_of), bool))


def collect(rows: Iterable[Sequence[object]], variants: Sequence[str]) -> VisitorDays:
    """Return the rows, (variant, visitor, day, *SUMS) each, as arrays; rows of other variants are left out.

    Rows of the variant BEFORE are visitors' past. A visitor found in two variants, as one whose weights were changed
    under way, is a visitor of each.
    """
    known, visitors, days = {name: n for n, name in enumerate(variants)}, dict[tuple[str, str], int](), []
    codes, sums, past = [], [], dict[str, list[object]]()
    for variant, client_id, day, *values in rows:
        if variant == BEFORE:
            past[str(client_id)] = values
        elif variant in known:
            codes.append(visitors.setdefault((str(variant), str(client_id)), len(visitors)))
            days.append(day)
            sums.append(values)
    ordered = sorted(set(days))  # type: ignore[type-var]
    places: Mapping[object, int] = {day: n for n, day in enumerate(ordered)}
    return VisitorDays(
        tuple(variants),
        tuple(ordered),  # type: ignore[arg-type]
        np.array([known[variant] for variant, _ in visitors], np.int64),
        np.array(codes, np.int64),
        np.array([places[day] for day in days], np.int64),
        np.array(sums, np.float64).reshape(-1, len(SUMS)),
        np.array([past.get(client_id, [0] * len(SUMS)) for _, client_id in visitors], np.float64).reshape(
            -1, len(SUMS)
        ),
    )
