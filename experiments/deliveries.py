"""Events and queries that a shop's own front end sends: each checked by itself, the sound ones written at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from catalog.models import Product
from experiments.assignment import Visitor
from experiments.intake import write_rows
from experiments.models import Reason, Refusal, SearchLog
from experiments.references import BadReference, ForeignReference, find_window, read
from experiments.spool import Row
from experiments.ubi import find_skew, read_event, read_query
from experiments.ubi_fields import Problem, UbiError

MAX_AHEAD = timedelta(minutes=5)  # what clocks may differ by


@dataclass(frozen=True, slots=True)
class Refused:
    """One thing wrong with one of what was sent. `index` counts from 0 in the list named `part`."""

    part: str
    index: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery. `unattributed` events are among the accepted, without the search they named.

    Of `opted_out` nothing is kept but how many they are.
    """

    accepted: int = 0
    unattributed: int = 0
    duplicates: int = 0
    refused: int = 0
    opted_out: int = 0
    errors: tuple[Refused, ...] = ()


@dataclass
class _Sorting:
    """The sound rows of one list, and what was wrong with the others."""

    part: str
    rows: dict[int, Row] = field(default_factory=dict)
    errors: list[Refused] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    unattributed: Counter[str] = field(default_factory=Counter)

    def read(self, values: Sequence[object], read_one: Callable[[object], Row]) -> None:
        for index, value in enumerate(values):
            try:
                self.rows[index] = read_one(value)
            except _Unsound as error:
                self.refuse(index, error.reason, error.problem)
            except UbiError as error:
                self.refuse(index, Reason.MALFORMED, *error.problems)
            except (RecursionError, OverflowError):
                self.refuse(index, Reason.MALFORMED, Problem("", "…", "is nested too deeply, or a number is too large"))

    def refuse(self, index: int, reason: Reason, *problems: Problem) -> None:
        self.rows.pop(index, None)
        self.reasons[reason.value] += 1
        self.errors += [Refused(self.part, index, problem) for problem in problems]

    def check_clocks(self) -> None:
        now, max_age = timezone.now(), timedelta(days=settings.SEARCHSITE["EVENT_MAX_AGE_DAYS"])
        for index, row in list(self.rows.items()):
            if skew := find_skew(row["timestamp"], now, max_age, MAX_AHEAD):
                self.refuse(index, Reason.CLOCK_SKEW, Problem("timestamp", row["timestamp"], skew))

    def check_products(self) -> None:
        asked = {row["object_id"] for row in self.rows.values() if row["object_id"]}
        known = set(Product.objects.filter(sku__in=asked).values_list("sku", flat=True)) if asked else set()
        for index, row in list(self.rows.items()):
            if row["object_id"] and row["object_id"] not in known:
                where = "event_attributes.object.object_id"
                problem = Problem(where, row["object_id"], "unknown object_id: no product has this SKU")
                self.refuse(index, Reason.UNKNOWN_PRODUCT, problem)

    def check_searches(self, sent: Iterable[Row]) -> None:
        """Leave the search out of events that it did not lead to, and count why; `sent` are searches that come along.

        A search that is not known yet is believed.
        """
        searches = {row["query_id"]: (row["client_id"], datetime.fromisoformat(row["timestamp"])) for row in sent}
        known = SearchLog.objects.filter(pk__in={row["query_id"] for row in self.rows.values() if row["query_id"]})
        searches |= {search.pk: (search.client_id, search.timestamp) for search in known.only("client_id", "timestamp")}
        for row in self.rows.values():
            client_id, searched_at = row.pop("signed", None) or searches.get(row["query_id"], ("", None))
            if reason := _find_fault(row, client_id, searched_at):
                row |= {"query_id": None, "position": None}
                self.unattributed[reason.value] += 1


def _find_fault(event: Row, client_id: str, searched_at: datetime | None) -> Reason | None:
    """Return why a search that this visitor did at that time did not lead to the event, None where it may have."""
    if client_id and event["client_id"] != client_id:
        return Reason.FOREIGN
    done_at = datetime.fromisoformat(event["timestamp"])
    return Reason.EXPIRED if searched_at and done_at - searched_at > find_window() else None


class _Unsound(Exception):  # noqa: N818 - says what the value is
    def __init__(self, reason: Reason, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.reason, self.problem = reason, problem


def take_in(queries: Sequence[object], events: Sequence[object]) -> Receipt:
    """Write what is sound and new, count the rest by reason, and say of each what is wrong with it.

    Sent again, all of it is known: nothing counts twice. Raises DatabaseError, and then nothing is written.
    """
    searches, deeds = _Sorting("queries"), _Sorting("events")
    searches.read(queries, read_query)
    deeds.read(events, _read_event)
    searches.check_clocks()
    deeds.check_clocks()
    deeds.check_products()
    deeds.check_searches(searches.rows.values())
    reasons = searches.reasons + deeds.reasons
    written = write_rows(list(searches.rows.values()), list(deeds.rows.values()), reasons + deeds.unattributed)
    errors = sorted([*searches.errors, *deeds.errors], key=lambda error: (error.part, error.index))
    return Receipt(
        accepted=written.accepted,
        unattributed=deeds.unattributed.total(),
        duplicates=written.duplicates,
        refused=reasons.total(),
        errors=tuple(errors),
    )


def leave_out(count: int) -> Receipt:
    """Count what a visitor did who asks not to be tracked, and write nothing of it."""
    Refusal.objects.add({Reason.OPTED_OUT.value: count})
    return Receipt(opted_out=count)


def _read_event(value: object) -> Row:
    """Return the event; one with a `ref` has query, product and position from there, and when that was `signed`."""
    if not (isinstance(value, dict) and "ref" in value):
        return read_event(value)
    told = dict(value)
    text, client_id = told.pop("ref"), str(told.get("client_id") or "")
    try:
        reference = read(str(text), Visitor(client_id or "nobody"))
    except ForeignReference as error:
        raise _Unsound(Reason.FOREIGN, Problem("ref", text, str(error))) from error
    except BadReference as error:
        raise _Unsound(Reason.FORGED, Problem("ref", text, str(error))) from error
    row = read_event(_set_product(told, reference.sku))
    signed_at = datetime.fromtimestamp(reference.signed_at, UTC)
    row |= {"query_id": reference.query_id, "position": reference.position, "signed": (client_id, signed_at)}
    if reference.is_narrowed:
        row["event_attributes"]["is_narrowed"] = True
    return row


def _set_product(event: dict[str, Any], sku: str) -> dict[str, Any]:
    attributes = event.get("event_attributes") or {}
    if not isinstance(attributes, dict) or not isinstance(attributes.get("object") or {}, dict):
        return event  # told by read_event
    thing = {**(attributes.get("object") or {}), "object_id": sku}
    return {**event, "event_attributes": {**attributes, "object": thing}}
