"""Taking rows into the event log: each batch and each row once, whoever brings it and however often."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction

from experiments import spool
from experiments.models import Event, Reason, Refusal, SearchLog, TakenBatch
from experiments.spool import Batch, Row

# What no later try will cure: no batch at all, or values that the columns do not take.
UNWRITABLE = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, ValidationError, DataError, IntegrityError,
)  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows were new, and how many were there before."""

    accepted: int = 0
    duplicates: int = 0


def take_in_spool(older_than_s: float = 0.0) -> int:
    """Write all batches that wait on disk and return how many rows were new.

    Raises DatabaseError when the database does not take them: they stay. Rows it never will take are set aside.
    """
    return sum(_take_in(path) for path in spool.list_waiting(older_than_s))


def _take_in(path: Path) -> int:
    try:
        batch = spool.read(path)
    except FileNotFoundError:  # another process was first
        return 0
    except UNWRITABLE as error:
        logger.error("%s is set aside, it holds no batch of events: %s", path, error)
        spool.set_aside(path)
        return 0
    new, bad = _write_sound(batch)
    if bad:
        spool.keep_refused(path, batch.batch_id, bad)
    path.unlink(missing_ok=True)
    return new


def _write_sound(batch: Batch) -> tuple[int, list[Batch]]:
    """Write what can be written and return how many rows were new, and what cannot, row by row."""
    try:
        return write_batch(batch), []
    except UNWRITABLE as error:
        parts = batch.halve()
        if not parts:
            logger.error("a row is set aside, it cannot be written (batch %s): %s", batch.batch_id, error)
            return 0, [batch]
    written = [_write_sound(part) for part in parts]
    return sum(new for new, _ in written), [one for _, bad in written for one in bad]


@transaction.atomic
def write_batch(batch: Batch) -> int:
    """Write a batch that was not written before and return how many of its rows were new.

    Events that were there before are counted as duplicates, impressions aside: every reload of a page repeats them.
    """
    if not TakenBatch.objects.insert_new([{"batch_id": batch.batch_id}]):
        return 0
    searches = SearchLog.objects.insert_new(batch.searches)
    by_action: dict[str, list[Row]] = {}
    for row in batch.events:
        by_action.setdefault(row["action_name"], []).append(row)
    # Always in the same order, so that no two writers wait for each other.
    new = {action: Event.objects.insert_new(by_action[action]) for action in sorted(by_action)}
    repeated = sum(len(by_action[action]) - count for action, count in new.items() if action != "impression")
    Refusal.objects.add(batch.refusals + Counter({Reason.DUPLICATE.value: repeated}))
    return searches + sum(new.values())


@transaction.atomic
def write_rows(searches: Sequence[Row], events: Sequence[Row], refusals: Mapping[str, int] | None = None) -> Written:
    """Write rows at once, for someone who waits for the answer; with `refusals`, duplicates are counted among them."""
    new = SearchLog.objects.insert_new(searches)
    new_events = Event.objects.insert_new(events)
    duplicates = len(events) - new_events
    if refusals is not None:
        Refusal.objects.add(Counter(refusals) + Counter({Reason.DUPLICATE.value: duplicates}))
    return Written(new + new_events, len(searches) - new + duplicates)
