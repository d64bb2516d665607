"""What a shopper means to buy, kept in the session; how many pieces that is also stands in a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse

SESSION_KEY = "cart"
# Pages that do not show the cart would have to read the session, one query each, for this number alone.
COUNT_COOKIE = "cart"
MAX_QUANTITY = 99  # pieces of a product
MAX_LINES = 100


class CartFull(Exception):  # noqa: N818 - says what the cart is
    """The cart holds as many different products as it can."""


@dataclass(frozen=True, slots=True)
class Line:
    """Pieces of a product, which is remembered as it was when they were added.

    `reference`: signed, of the search that led to it; '' for none.
    """

    sku: str
    title: str
    quantity: int
    price_cents: int
    currency: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """The line last taken out, and the place it had."""

    line: Line
    place: int


class Cart:
    """Lines in the order they were added, each product once. Every change is written to the session."""

    def __init__(self, session: SessionBase) -> None:
        kept = session.get(SESSION_KEY, {})
        self._session = session
        self._lines = {values["sku"]: Line(**values) for values in kept.get("lines", ())}
        removed = kept.get("removed")
        self.removed = Removed(Line(**removed["line"]), removed["place"]) if removed else None

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(self._lines.values())

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return sum(line.quantity for line in self._lines.values())

    def add(self, line: Line) -> None:
        """Add the pieces to those of the same product, up to MAX_QUANTITY; the newest reference known counts.

        Raises CartFull for one product more than MAX_LINES.
        """
        known = self._lines.get(line.sku)
        if known is None and len(self._lines) >= MAX_LINES:
            raise CartFull(f"A cart holds {MAX_LINES} different products: order these first, or remove one.")
        if known:
            quantity = min(known.quantity + line.quantity, MAX_QUANTITY)
            line = replace(line, quantity=quantity, reference=line.reference or known.reference)
        self._write({**self._lines, line.sku: line})

    def change(self, sku: str, quantity: int) -> None:
        """Set how many pieces there are; 0 removes the line. Does nothing for a product that is not in the cart."""
        if quantity == 0:
            self.remove(sku)
        elif sku in self._lines:
            self._write({**self._lines, sku: replace(self._lines[sku], quantity=quantity)})

    def remove(self, sku: str) -> None:
        """Take the line out, remembering it until the next change; removing it twice does nothing more."""
        if sku in self._lines:
            removed = Removed(self._lines[sku], list(self._lines).index(sku))
            self._write({key: line for key, line in self._lines.items() if key != sku}, removed)

    def undo(self) -> None:
        """Put the line last removed back in its place, if nothing was changed since."""
        if self.removed:
            lines = list(self._lines.items())
            lines.insert(self.removed.place, (self.removed.line.sku, self.removed.line))
            self._write(dict(lines))

    def clear(self) -> None:
        self._write({})

    def show_count(self, request: HttpRequest, response: HttpResponse) -> None:
        """Have the browser keep the number of pieces, for as long as the session, where it keeps another."""
        if read_count(request) == self.count:
            return
        age_s = settings.SESSION_COOKIE_AGE if self.count else 0
        is_secure = settings.SESSION_COOKIE_SECURE
        count = str(self.count)
        response.set_cookie(COUNT_COOKIE, count, max_age=age_s, httponly=True, samesite="Lax", secure=is_secure)

    def _write(self, lines: Mapping[str, Line], removed: Removed | None = None) -> None:
        self._lines, self.removed = dict(lines), removed
        kept = {"lines": [asdict(line) for line in self.lines], "removed": asdict(removed) if removed else None}
        self._session[SESSION_KEY] = kept


def read_count(request: HttpRequest) -> int:
    """Return the number of pieces that the browser keeps, 0 for none or for what is no such number."""
    text = request.COOKIES.get(COUNT_COOKIE, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
