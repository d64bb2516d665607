"""A simulated shopper's search at the real shop: the page that comes back, and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from catalog.models import Product
from experiments.events import Action, record_click, record_event, simulate
from experiments.references import Reference
from experiments.shoppers import Behaviour, Population, ShopperModel, click_blindly, shop
from experiments.visitors import ShopVisitor
from retrieval.engine.types import Query
from searchsite.search import SearchPage, search_products

READ_S, DECIDE_S, PAY_S = 4.0, 30.0, 120.0  # a result's look, from a click to the cart, from there to paying
LONGEST_S = 600.0  # of one search with all that comes of it


@dataclass(frozen=True, slots=True)
class Intent:
    """One search that somebody makes, and what would answer it. `seed`: of all that chance decides in it."""

    visitor: ShopVisitor
    text: str
    relevance: Mapping[str, float]
    at: datetime
    seed: tuple[int, int]
    is_program: bool = False  # clicks whatever is there


@dataclass(frozen=True)
class Crowd:
    """How all of them behave, and what was clicked: who searches the same again does not click the same again."""

    model: ShopperModel
    population: Population
    clicked: set[tuple[str, str]] = field(default_factory=set)

    def search(self, intent: Intent) -> SearchPage:
        """Search as the site does, record what such a shopper does with the page, and return the page."""
        with simulate(intent.at):
            page = search_products(Query(intent.text), intent.visitor)
        if page.found:
            done = self.behave(intent, page)
            for place in np.flatnonzero(done.clicks).tolist():
                self._click(intent, page, place, is_added=bool(done.adds[place]), is_bought=bool(done.purchases[place]))
        return page

    def behave(self, intent: Intent, page: SearchPage) -> Behaviour:
        """Return what is done with each product of the page."""
        rng = np.random.default_rng(intent.seed)
        relevance = np.array([intent.relevance.get(product.sku, 0.0) for product in page.products])
        if intent.is_program:
            return click_blindly(relevance, self.population, rng)
        return shop(relevance, self.model, rng)

    def _click(self, intent: Intent, page: SearchPage, place: int, *, is_added: bool, is_bought: bool) -> None:
        product, key = page.products[place], (page.query_id, page.products[place].sku)
        if key in self.clicked:
            return
        self.clicked.add(key)
        at = intent.at + timedelta(seconds=READ_S * (place + 1))
        with simulate(at):
            reference = record_click(intent.visitor, page.references[place], product.sku)
        if is_added:
            _record(intent, Action.ADD_TO_CART, product, reference, at + timedelta(seconds=DECIDE_S))
        if is_bought:
            _record(intent, Action.PURCHASE, product, reference, at + timedelta(seconds=DECIDE_S + PAY_S))


def _record(intent: Intent, action: Action, product: Product, reference: Reference | None, at: datetime) -> None:
    """Record one piece added or bought: by its own id, so that the same simulation run again adds nothing.

    No order is placed: that would take stock away from those who really buy.
    """
    query_id = reference.query_id if reference else ""
    with simulate(at):
        record_event(
            intent.visitor,
            action,
            sku=product.sku,
            reference=reference,
            value_cents=product.price_cents or 0,
            currency=product.currency,
            event_id=f"{action}-{query_id}-{product.pk}",
        )
