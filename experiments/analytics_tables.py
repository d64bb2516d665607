"""Tables of the page about searches: their columns, what they say when they are empty, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from catalog.money import format_price
from experiments.summaries import LEAST_VISITORS

SHOWN = 20  # rows of a table on the page; its CSV has all
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. `unit`: text, query, count, share, money, ms or number."""

    key: str
    label: str
    unit: str = "count"

    def show(self, row: Mapping[str, Any]) -> str:
        """Return the row's value as people read it, '–' for none."""
        value = row[self.key]
        if value is None:
            return "–"
        if self.unit == "money":
            return format_price(value, settings.SEARCHSITE["CURRENCY"])
        if self.unit == "share":
            return f"{100 * value:.1f} %"
        forms = {"count": "{:,}", "ms": "{:,.1f} ms", "number": "{:.1f}"}
        return forms.get(self.unit, "{}").format(value)


@dataclass(frozen=True, slots=True)
class Plan:
    """One table of the page: how it is headed, what it says when it is empty, and its columns."""

    title: str
    note: str
    empty: str
    columns: tuple[Column, ...]


QUERY, SEARCHES, VISITORS = (
    Column("text", "query", "query"),
    Column("searches", "searches"),
    Column("visitors", "visitors"),
)
CLICKED, ZERO = Column("click_share", "with a click", "share"), Column("zero", "without results")
TABLES: dict[str, Plan] = {
    "top": Plan(
        "Top queries",
        "Visitors count once a day for each query.",
        "Nobody has typed a query in this period.",
        (QUERY, SEARCHES, VISITORS, CLICKED, ZERO, Column("revenue_cents", "revenue", "money")),
    ),
    "rising": Plan(
        "Rising queries",
        "Against the period before, by how many standard deviations visitors rose beyond what all queries did; from 2 "
        f"on, and from {LEAST_VISITORS} visitors. A visitor counts once a day: who searches again and again makes "
        "nothing rise.",
        "No query rose by more than chance, or nothing is known of the period before.",
        (QUERY, VISITORS, Column("before", "before"), Column("rise", "rise", "number")),
    ),
    "zero": Plan(
        "Queries without results",
        "What shoppers want and the shop does not find: products to add, words to put into titles.",
        "Every query found something.",
        (QUERY, ZERO, SEARCHES, VISITORS),
    ),
    "no_click": Plan(
        "Queries without a click",
        "Something was found, and nobody clicked on any of it.",
        "Every query that found something was clicked on.",
        (QUERY, SEARCHES, VISITORS, ZERO),
    ),
    "positions": Plan(
        "Clicks by position",
        "Of first pages neither filtered nor sorted anew. Seen is what browsers tell came into view.",
        "No page of results was shown in this period.",
        (
            Column("position", "position", "text"),
            Column("shown", "shown"),
            Column("clicked", "clicked"),
            Column("click_share", "of shown", "share"),
            Column("seen", "seen"),
            Column("seen_share", "clicked of seen", "share"),
        ),
    ),
    "days": Plan(
        "Latency by day",
        "Of the search itself, within 5 %; half of the searches took less than p50, 95 % less than p95. Days are UTC.",
        "Nobody has searched in this period.",
        (Column("day", "day", "text"), SEARCHES, Column("p50_ms", "p50", "ms"), Column("p95_ms", "p95", "ms")),
    ),
    "refused": Plan(
        "Refused",
        "What came in and does not count, by reason.",
        "Nothing was refused in this period.",
        (Column("reason", "reason", "text"), Column("meaning", "that is", "text"), Column("count", "times")),
    ),
}


@dataclass(frozen=True)
class Table:
    """A table of the page with its rows."""

    key: str
    plan: Plan
    rows: list[dict[str, Any]]

    @property
    def shown(self) -> Iterator[list[tuple[str, Column]]]:
        """Yield the first rows: each value as people read it, with its column."""
        for row in self.rows[:SHOWN]:
            yield [(column.show(row), column) for column in self.plan.columns]

    @property
    def left_out(self) -> int:
        return max(len(self.rows) - SHOWN, 0)

    def to_csv(self) -> Iterator[list[Any]]:
        """Yield the header and all rows, values as they are."""
        yield [column.key for column in self.plan.columns]
        for row in self.rows:
            yield [quote_formula(row[column.key]) for column in self.plan.columns]


def add_shares(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its shares of clicks, None of nothing."""
    shares: dict[str, float | None] = {}
    if "clicked" in row:
        whole = row["searches"] if "searches" in row else row["shown"]
        shares["click_share"] = row["clicked"] / whole if whole else None
    if "seen" in row:
        shares["seen_share"] = row["seen_clicked"] / row["seen"] if row["seen"] else None
    return row | shares


def quote_formula(value: Any) -> Any:
    """Return the value so that no spreadsheet runs what a shopper typed."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
