"""What visitors do, recorded without a search or a page waiting for it: the doors to the event log.

Actions and fields follow User Behavior Insights 1.3.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from django.conf import settings

from experiments.buffer import buffer
from experiments.intake import take_in_spool
from experiments.models import Reason
from experiments.references import BadReference, ForeignReference, Reference, read
from experiments.ubi import MAX_ID, MAX_TEXT, MAX_USER_QUERY
from experiments.visitors import ShopVisitor
from retrieval.engine.text import normalize
from retrieval.engine.types import Filters, Query, Results, Sort

NAMESPACE = uuid.UUID("5f0f3a63-6f0e-4a4e-9d5c-6f5d3a1f7c11")
SEARCH_LASTS_S = 1800  # what is asked again within it is the same search

logger = logging.getLogger(__name__)
_simulated_at: ContextVar[datetime | None] = ContextVar("simulated_at", default=None)


class Action(StrEnum):
    IMPRESSION = "impression"
    CLICK = "click"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"


@contextmanager
def simulate(at: datetime) -> Iterator[None]:
    """Have what is recorded within happen at that time, marked as simulated."""
    token = _simulated_at.set(at)
    try:
        yield
    finally:
        _simulated_at.reset(token)


def is_simulating() -> bool:
    return _simulated_at.get() is not None


def record_event(
    visitor: ShopVisitor,
    action: str,
    *,
    sku: str,
    reference: Reference | None = None,
    quantity: int = 1,
    value_cents: int = 0,
    currency: str = "",
    event_id: str = "",
) -> None:
    """Note that the visitor did something with a product; `value_cents` is that of all pieces together.

    An event with an `event_id` noted before counts once. A reference of another visitor or older than the attribution
    window is left out and counted. Never raises, and waits for no queue or database.
    """
    if not (visitor.is_logged and settings.SEARCHSITE["EVENTS"]):
        return
    try:
        row = _make_event(visitor, Action(action), sku, _keep_sound(visitor, reference), event_id)
        _note(visitor, "events", row | {"quantity": quantity, "value_cents": value_cents, "currency": currency})
    except Exception:  # a shop goes on selling whatever its event log does
        logger.exception("an event was not recorded: %s of %r", action, sku)


def record_click(visitor: ShopVisitor, text: str, sku: str) -> Reference | None:
    """Note a click on a result whose link carried `text`, and return its reference if that is sound and this product's.

    One click counts for each product of a search. What is forged, another visitor's or too old is ignored and counted.
    """
    reference = read_counted(visitor, text) if visitor.is_logged else None
    if reference is None:
        return None
    if reference.sku != sku:
        refuse(Reason.FORGED)
        return None
    record_reference(visitor, Action.CLICK, reference)
    return reference


def record_impressions(visitor: ShopVisitor, texts: Iterable[str]) -> int:
    """Note that these results, by their references, were really seen, and return how many were sound."""
    found = [reference for text in texts if (reference := read_counted(visitor, text))]
    for reference in found:
        record_reference(visitor, Action.IMPRESSION, reference)
    return len(found)


def record_reference(visitor: ShopVisitor, action: Action, reference: Reference) -> None:
    """Note a click on, or the sight of, a result: once for each product of a search, however often it is told."""
    if reference.is_expired:
        return refuse(Reason.EXPIRED)
    event_id = derive_id(action, reference.query_id, reference.sku, str(reference.is_narrowed))
    return record_event(visitor, action, sku=reference.sku, reference=reference, event_id=event_id)


def read_counted(visitor: ShopVisitor, text: str) -> Reference | None:
    """Return the visitor's reference; None, and counted, for a text that is none or another visitor's."""
    try:
        return read(text, visitor)
    except ForeignReference:
        refuse(Reason.FOREIGN)
    except BadReference:
        refuse(Reason.FORGED)
    return None


def record_search(
    visitor: ShopVisitor,
    query: Query,
    results: Results,
    skus: Iterable[str],
    *,
    variant: str = "",
    teams: Mapping[str, str] | None = None,
) -> str:
    """Note a search and return its id, '' for a visitor who is not logged. `skus`: of the page shown, in order.

    Filters, sorts, pages and reloads belong to the same search. `teams`: of each SKU, where two rankings are shown
    as one.
    """
    if not (visitor.is_logged and settings.SEARCHSITE["EVENTS"]):
        return ""
    query_id = find_query_id(visitor, query, variant or results.config_name, _now().timestamp())
    try:
        row = _make_search(visitor, query, results, list(skus) if query.page == 1 else [])
        if teams:
            row["query_attributes"] |= {"teams": dict(teams)}
        _note(visitor, "searches", row | {"query_id": query_id, "variant": variant})
    except Exception:  # as above
        logger.exception("a search was not recorded: %r", query.text)
    return query_id


def find_query_id(visitor: ShopVisitor, query: Query, ranking: str, now: float) -> str:
    """Return the id of the visitor's search, the same for half an hour: of what was asked, not how it is narrowed.

    Where nothing is typed, the category browsed is what was asked. A search that the visitor's page still shows from
    the half hour before goes on under its id.
    """
    asked = normalize(query.text) or f"\0{query.filters.category}"
    parts = (visitor.id, asked, str(query.is_verbatim), ranking)
    current, before = (derive_id(*parts, str(int(now // SEARCH_LASTS_S) - passed)) for passed in (0, 1))
    return before if visitor.shown == before else current


def derive_id(*parts: str) -> str:
    """Return a UUID, the same for the same parts."""
    return str(uuid.uuid5(NAMESPACE, "\0".join(parts)))


def refuse(reason: Reason, count: int = 1) -> None:
    """Count what was ignored and why."""
    buffer.add_refusals(reason, count)


def flush_recorded() -> int:
    """Write what was recorded and not yet written to the database, and return how many rows were new."""
    buffer.flush()
    return take_in_spool()


def _keep_sound(visitor: ShopVisitor, reference: Reference | None) -> Reference | None:
    if reference is None:
        return None
    if not reference.is_of(visitor):
        refuse(Reason.FOREIGN)
    elif reference.is_expired:
        refuse(Reason.EXPIRED)
    else:
        return reference
    return None


def _make_event(
    visitor: ShopVisitor, action: Action, sku: str, reference: Reference | None, event_id: str
) -> dict[str, Any]:
    return {
        "event_id": event_id or str(uuid.uuid4()),
        "action_name": action.value,
        "query_id": reference and reference.query_id,
        "client_id": visitor.id,
        "object_id": sku,
        "position": reference and reference.position,
        "timestamp": _now().isoformat(),
        "is_simulated": is_simulating(),
        "application": visitor.application,
        "event_attributes": {"is_narrowed": True} if reference and reference.is_narrowed else {},
    }


def _make_search(visitor: ShopVisitor, query: Query, results: Results, skus: list[str]) -> dict[str, Any]:
    return {
        "client_id": visitor.id,
        "user_query": query.text[:MAX_USER_QUERY],
        "text": normalize(query.text)[:MAX_TEXT],
        "timestamp": _now().isoformat(),
        "is_simulated": is_simulating(),
        "application": visitor.application,
        "total": results.total,
        "latency_ms": results.timings_ms.get("total"),
        "config_name": results.config_name[:MAX_ID],
        "notice": results.notice,
        "page_size": query.page_size,
        "hit_skus": skus,
        "query_attributes": describe_narrowing(query),
        "is_bot": visitor.is_bot,
    }


def describe_narrowing(query: Query) -> dict[str, Any]:
    """Return filters, sort and page where they are not as usual, and what was searched to the letter."""
    usual, filters = Filters(), query.filters
    found: dict[str, Any] = {
        name: getattr(filters, name)
        for name in Filters.__slots__
        if name != "attributes" and getattr(filters, name) != getattr(usual, name)
    }
    if filters.attributes:
        found["attributes"] = {name: list(values) for name, values in filters.attributes}
    if query.sort is not Sort.RELEVANCE:
        found["sort"] = query.sort.value
    return found | ({"page": query.page} if query.page > 1 else {}) | ({"verbatim": True} if query.is_verbatim else {})


def _note(visitor: ShopVisitor, table: str, row: dict[str, Any]) -> None:
    buffer.add(table, row)
    visitor.traces.append(table)


def _now() -> datetime:
    return _simulated_at.get() or datetime.now(UTC)
