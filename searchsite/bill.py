"""What the lines of a cart cost now, and what has changed or stands in the way since they were added."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from catalog.models import Product
from catalog.money import format_price
from searchsite.cart import Line


@dataclass(frozen=True, slots=True)
class Offer:
    """A line at today's terms. `problem`: why it cannot be bought; `news`: what is different since it was added."""

    line: Line
    product: Product | None
    problem: str = ""
    news: str = ""

    @property
    def title(self) -> str:
        return self.product.title if self.product else self.line.title

    @property
    def price_cents(self) -> int:
        """The price of a piece; that of old where there is none now."""
        now = self.product.price_cents if self.product else None
        return self.line.price_cents if now is None else now

    @property
    def currency(self) -> str:
        return self.line.currency if self.product is None else self.product.currency

    @property
    def total_cents(self) -> int:
        return self.price_cents * self.line.quantity

    @property
    def price(self) -> str:
        return format_price(self.price_cents, self.currency)

    @property
    def total(self) -> str:
        return format_price(self.total_cents, self.currency)

    @property
    def enough(self) -> int:
        """How many pieces could be had where there are fewer than asked for, 0 otherwise."""
        stock = self.product.stock if self.product and self.problem else None
        return stock if stock and stock < self.line.quantity else 0


@dataclass(frozen=True, slots=True)
class Bill:
    """The offers for all lines of a cart."""

    offers: tuple[Offer, ...]

    @property
    def count(self) -> int:
        return sum(offer.line.quantity for offer in self.offers)

    @property
    def totals(self) -> list[str]:
        """What is to be paid for that which can be bought, a sum a currency."""
        sums: Counter[str] = Counter()
        for offer in self.offers:
            if not offer.problem:
                sums[offer.currency] += offer.total_cents
        return [format_price(cents, currency) for currency, cents in sums.items()]

    @property
    def is_payable(self) -> bool:
        return bool(self.offers) and not any(offer.problem for offer in self.offers)

    @property
    def digest(self) -> str:
        """32 hex digits that change with what is bought or what it costs."""
        terms = [(offer.line.sku, offer.line.quantity, offer.price_cents, offer.currency) for offer in self.offers]
        return hashlib.sha256(repr(terms).encode()).hexdigest()[:32]


def make_bill(lines: Sequence[Line], products: Iterable[Product] | None = None) -> Bill:
    """Return the bill; `products` are those of the lines, read from the database when not given."""
    if products is None:
        products = Product.objects.filter(sku__in=[line.sku for line in lines]).defer("description", "attributes")
    found = {product.sku: product for product in products} if lines else {}
    return Bill(tuple(_make_offer(line, found.get(line.sku)) for line in lines))


def _make_offer(line: Line, product: Product | None) -> Offer:
    if product is None:
        return Offer(line, None, find_problem(None, line.quantity))
    news = "" if product.price_cents is None else _tell_news(line, product.price_cents, product.currency)
    return Offer(line, product, find_problem(product, line.quantity), news)


def _tell_news(line: Line, price_cents: int, currency: str) -> str:
    if (line.price_cents, line.currency) == (price_cents, currency):
        return ""
    before, now = format_price(line.price_cents, line.currency), format_price(price_cents, currency)
    return f"The price was {before} when you added it, it is {now} now."


def find_problem(product: Product | None, quantity: int) -> str:
    """Return why so many pieces cannot be bought, '' if they can."""
    if product is None or not product.active:
        return "No longer sold."
    if product.price_cents is None:
        return "Its price is on request: it cannot be ordered here."
    if not product.is_in_stock:
        return "Out of stock."
    if product.stock is not None and product.stock < quantity:
        return f"Only {product.stock} left."
    return ""
