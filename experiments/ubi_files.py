"""The event log in files: JSON Lines of User Behavior Insights 1.3, out and in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from experiments.intake import take_in_spool, write_rows
from experiments.models import Event, SearchLog
from experiments.spool import Row
from experiments.ubi import read_event, read_query, write_event, write_query
from experiments.ubi_fields import UbiError

QUERIES, EVENTS = "ubi_queries.jsonl", "ubi_events.jsonl"
BATCH_SIZE = 1_000
MAX_ERRORS = 1_000  # kept in full; the rest is counted
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Export:
    queries: int
    events: int


@dataclass
class Import:
    """What became of the lines so far; `errors` name file and line."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    errors: list[str] = field(default_factory=list)
    searches: list[Row] = field(default_factory=list, repr=False)
    events: list[Row] = field(default_factory=list, repr=False)

    def add(self, value: object) -> None:
        """Keep a line's query or event for the next batch; raises UbiError for one that is neither."""
        if isinstance(value, dict) and "action_name" not in value and "user_query" in value:
            self.searches.append(read_query(value, is_strict=False))
        else:
            self.events.append(read_event(value, is_strict=False))
        if len(self.searches) + len(self.events) >= BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        written = write_rows(self.searches, self.events)
        self.accepted += written.accepted
        self.duplicates += written.duplicates
        self.searches, self.events = [], []

    def refuse(self, place: str, reason: str) -> None:
        self.refused += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(f"{place}: {reason}")

    def to_dict(self, errors: int) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("accepted", "duplicates", "refused")}
        return counts | {"first_errors": self.errors[:errors]}


def export_ubi(
    folder: Path, since: datetime | None = None, until: datetime | None = None, on_rows: Progress = lambda rows: None
) -> Export:
    """Write searches and events of that time to two files in `folder` and return how many there were.

    `on_rows` hears of every thousand. Raises OSError.
    """
    take_in_spool()
    folder.mkdir(parents=True, exist_ok=True)
    searches = SearchLog.objects.between(since, until).order_by("timestamp", "pk").iterator(BATCH_SIZE)
    events = Event.objects.between(since, until).order_by("timestamp", "pk").iterator(BATCH_SIZE)
    return Export(
        _write(folder / QUERIES, map(write_query, searches), on_rows),
        _write(folder / EVENTS, map(write_event, events), on_rows),
    )


def _write(path: Path, values: Iterable[dict[str, Any]], on_rows: Progress) -> int:
    """Write one value a line; the file is there whole or as it was before."""
    count, draft = 0, path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        for count, value in enumerate(values, 1):
            file.write(json.dumps(value, ensure_ascii=False) + "\n")
            if count % BATCH_SIZE == 0:
                on_rows(BATCH_SIZE)
    draft.replace(path)
    return count


def import_ubi(path: Path, done: Import, on_bytes: Progress = lambda read: None) -> None:
    """Take the queries and events of a file in, and add to `done` what became of them.

    `on_bytes` hears how much is read. Raises OSError.
    """
    read = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            read += len(line)
            try:
                if line.strip():
                    done.add(json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant))
            except (UbiError, ValueError, RecursionError, OverflowError) as error:
                done.refuse(f"{path.name}, line {number}", str(error))
            if number % BATCH_SIZE == 0:
                on_bytes(read)
    done.flush()
    on_bytes(read)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
