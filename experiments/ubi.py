"""Rows of the event log as User Behavior Insights 1.3 has them, and back: https://github.com/o19s/ubi

What UBI has no field for stands in its open parts, `event_attributes` and `query_attributes`, and an event's own id
beside its other ids. An ordinal of 0 says that the product stood in no list: the schema wants a position. When a row
was received is written and not read: what comes in is received now, and sums are made by what came since the last time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from experiments.models import Event, SearchLog
from experiments.spool import Row
from experiments.ubi_fields import Fields, UbiError, hash_value, open_fields
from retrieval.engine.text import normalize

MAX_ID = 100  # characters, by UBI
MAX_OBJECT_ID = 256
MAX_MESSAGE = 1024
MAX_USER_QUERY = 10_000
MAX_HITS = 1_000
MAX_COUNT = 2**31 - 1  # what both databases keep
MAX_VALUE = 10**12  # minor units: no order is worth more, and one that says so would be all the revenue there is
MAX_TEXT = 300  # characters of the normalised text, as judgement sets have
NEED_PRODUCT = {"impression", "click", "add_to_cart", "purchase"}
EVENT_EXTRAS = {"session_id": MAX_ID, "user_id": MAX_ID, "message_type": MAX_ID, "message": MAX_MESSAGE}
QUERY_EXTRAS = {"object_id_field": MAX_ID, "query_response_id": MAX_ID}
EVENT_OWN = ("value_cents", "currency", "quantity", "is_simulated", "received_at")
QUERY_OWN = (
    "total", "latency_ms", "config_name", "variant", "notice", "page_size", "is_simulated", "is_bot", "received_at",
)  # fmt: skip


def read_event(value: object, *, is_strict: bool = True) -> Row:
    """Return the event as a row; raises UbiError. An event that has no id gets one made of all it says.

    `is_strict`: a visitor is needed too, whom UBI can do without.
    """
    fields = open_fields(value)
    attributes = fields.part("event_attributes")
    thing, place = attributes.part("object"), attributes.part("position")
    action = fields.text("action_name", MAX_ID, is_needed=True)
    row: Row = {
        "action_name": action,
        "timestamp": fields.time("timestamp", is_needed=True),
        "event_id": fields.text("event_id", MAX_ID) or attributes.text("event_id", MAX_ID) or hash_value(value),
        "client_id": fields.text("client_id", MAX_ID, is_needed=is_strict),
        "query_id": fields.text("query_id", MAX_ID) or None,
        "application": fields.text("application", MAX_ID),
        "object_id": thing.text("object_id", MAX_OBJECT_ID, is_needed=is_strict and action in NEED_PRODUCT),
        "position": place.number("ordinal", None, MAX_COUNT) or None,
        "value_cents": attributes.number("value_cents", 0, MAX_VALUE),
        "currency": attributes.currency("currency"),
        "quantity": attributes.number("quantity", 1, MAX_COUNT),
        "is_simulated": attributes.flag("is_simulated"),
        "extras": _read_extras(fields, EVENT_EXTRAS),
    }
    kept = _drop_empty({"object": thing.left, "position": place.left})
    attributes.drop("received_at")
    row["event_attributes"] = attributes.keep_left() | kept
    return _finish(row, fields)


def read_query(value: object, *, is_strict: bool = True) -> Row:
    """Return the query as a row; raises UbiError. One that has no id gets one made of all it says."""
    fields = open_fields(value)
    attributes = fields.part("query_attributes")
    has_text = isinstance(fields.left.get("user_query"), str)  # empty is well: all products were browsed
    user_query = fields.text("user_query", MAX_USER_QUERY, is_needed=not has_text)
    row: Row = {
        "query_id": fields.text("query_id", MAX_ID) or hash_value(value),
        "user_query": user_query,
        "text": normalize(user_query)[:MAX_TEXT],
        "timestamp": fields.time("timestamp", is_needed=True),
        "client_id": fields.text("client_id", MAX_ID, is_needed=is_strict),
        "application": fields.text("application", MAX_ID),
        "hit_skus": fields.texts("query_response_hit_ids", MAX_HITS),
        "total": attributes.number("total", None, MAX_COUNT),
        "latency_ms": attributes.decimal("latency_ms"),
        "config_name": attributes.text("config_name", MAX_ID),
        "variant": attributes.text("variant", 300),
        "notice": attributes.text("notice", 300),
        "page_size": attributes.number("page_size", None, MAX_COUNT),
        "is_simulated": attributes.flag("is_simulated"),
        "is_bot": attributes.flag("is_bot"),
        "extras": _read_extras(fields, QUERY_EXTRAS),
    }
    attributes.drop("received_at")
    row["query_attributes"] = attributes.keep_left()
    return _finish(row, fields)


def write_event(event: Event) -> dict[str, Any]:
    """Return the event as UBI has it."""
    attributes = dict(event.event_attributes)
    thing = {"object_id": event.object_id} if event.object_id else {}
    parts = {
        "object": thing | attributes.pop("object", {}),
        "position": {"ordinal": event.position or 0} | attributes.pop("position", {}),
    }
    own = {name: getattr(event, name) for name in EVENT_OWN} | {"received_at": event.received_at.isoformat()}
    found = {
        "application": event.application,
        "action_name": event.action_name,
        "query_id": event.query_id,
        "event_id": event.event_id,
        "client_id": event.client_id,
        "timestamp": event.timestamp.isoformat(),
        **event.extras,
    }
    return _drop_empty(found) | {"event_attributes": _drop_empty(parts) | _drop_usual(own) | attributes}


def write_query(search: SearchLog) -> dict[str, Any]:
    """Return the search as UBI has a query."""
    own = {name: getattr(search, name) for name in QUERY_OWN} | {"received_at": search.received_at.isoformat()}
    found = {
        "application": search.application,
        "query_id": search.query_id,
        "client_id": search.client_id,
        "timestamp": search.timestamp.isoformat(),
        **search.extras,
    }
    return _drop_empty(found) | {
        "user_query": search.user_query,
        "query_response_hit_ids": search.hit_skus,
        "query_attributes": _drop_usual(own) | search.query_attributes,
    }


def find_skew(timestamp: str, now: datetime, max_age: timedelta, max_ahead: timedelta) -> str:
    """Return in words how the time is too far from `now`, '' if it is not."""
    passed = now - datetime.fromisoformat(timestamp)
    if passed < -max_ahead:
        return f"is in the future: the clock here says {now.isoformat(timespec='seconds')}"
    return f"is older than {max_age.days} days" if passed > max_age else ""


def _finish(row: Row, fields: Fields) -> Row:
    if fields.problems:
        raise UbiError(fields.problems)
    return row


def _read_extras(fields: Fields, limits: Mapping[str, int]) -> dict[str, str]:
    return _drop_empty({name: fields.text(name, limit) for name, limit in limits.items()})


def _drop_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", {}, [])}


def _drop_usual(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not as a row has it when nothing is said."""
    usual = {"value_cents": 0, "quantity": 1, "is_simulated": False, "is_bot": False}
    return {name: value for name, value in _drop_empty(values).items() if name not in usual or value != usual[name]}
