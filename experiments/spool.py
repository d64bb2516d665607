"""Batches of rows on disk until the database has them: files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings

Row = dict[str, Any]

_NAME = re.compile(r"[0-9]{1,30}-")


@dataclass
class Batch:
    """Rows of both tables by field names, and how often something was ignored for which reason."""

    searches: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    batch_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __len__(self) -> int:
        return len(self.searches) + len(self.events)

    def __bool__(self) -> bool:
        return bool(self.searches or self.events or self.refusals)

    def extend(self, other: Batch) -> None:
        self.searches += other.searches
        self.events += other.events
        self.refusals.update(other.refusals)

    def halve(self) -> list[Batch]:
        """Return the refusals and the rows in two halves, none for a single row; the ids are derived from this one's.

        Halved again, it has the same parts under the same ids.
        """
        if len(self) + bool(self.refusals) <= 1:
            return []
        middle = len(self) // 2
        rest = max(middle - len(self.searches), 0)
        refusals = Batch([], [], self.refusals, f"{self.batch_id}/0")
        first = Batch(self.searches[:middle], self.events[:rest], batch_id=f"{self.batch_id}/1")
        second = Batch(self.searches[middle:], self.events[rest:], batch_id=f"{self.batch_id}/2")
        return [part for part in (refusals, first, second) if part]

    def split(self, size: int) -> Iterator[Batch]:
        """Yield the same in batches of at most `size` rows of each table."""
        searches, events, refusals = iter(self.searches), iter(self.events), self.refusals
        while part := Batch(list(islice(searches, size)), list(islice(events, size)), refusals):
            yield part
            refusals = Counter()


def find_folder() -> Path:
    return Path(settings.DATA_DIR) / "spool" / "events"


def put(batch: Batch) -> Path:
    """Write the batch to a file of its own and return it; raises OSError."""
    folder = find_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{time.time_ns()}-{batch.batch_id.replace('/', '-')}.json"
    return _write(path, vars(batch))


def _write(path: Path, facts: dict[str, Any]) -> Path:
    draft = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.draft")  # no other process has the same
    draft.write_text(json.dumps(facts), encoding="utf-8")
    return draft.replace(path)


def read(path: Path) -> Batch:
    """Return the batch in a file. Raises FileNotFoundError if it is gone, ValueError if it is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        found = Batch(facts["searches"], facts["events"], Counter(facts["refusals"]), facts["batch_id"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no batch of events: {error!r}") from error
    if not (isinstance(found.searches, list) and isinstance(found.events, list)):
        raise ValueError(f"{path.name} holds no batch of events: expected lists of rows")
    return found


def list_waiting(older_than_s: float = 0.0) -> list[Path]:
    """Return the files that wait, oldest first."""
    latest = time.time_ns() - int(older_than_s * 1e9)
    return [path for path in sorted(_list_batches()) if find_time_ns(path) <= latest]


def find_time_ns(path: Path) -> int:
    """Return when the batch was spooled, in nanoseconds since the epoch."""
    return int(path.name.partition("-")[0])


def count_waiting() -> int:
    return len(_list_batches())


def _list_batches() -> list[Path]:
    """Return the files named as `put` names them; whatever else lies there is passed over."""
    return [path for path in find_folder().glob("*.json") if _NAME.match(path.name)]


def set_aside(path: Path) -> None:
    """Keep a file that no database will ever take, where nobody tries again."""
    with suppress(FileNotFoundError):  # another process was first
        path.replace(path.with_suffix(".refused"))


def keep_refused(path: Path, batch_id: str, parts: Sequence[Batch]) -> None:
    """Write what no database will ever take of the batch in `path` beside it, where nobody tries again."""
    kept = Batch(batch_id=batch_id)
    for part in parts:
        kept.extend(part)
    _write(path.with_suffix(".refused"), vars(kept))


def forget(client_id: str) -> int:
    """Take a visitor's rows out of what was set aside, delete damaged files that name the visitor, and return how many.

    Of a damaged file nobody can tell whose the rest of it is.
    """
    return sum(_forget_in(path, client_id) for path in find_folder().glob("*.refused"))


def _forget_in(path: Path, client_id: str) -> int:
    try:
        batch = read(path)
    except FileNotFoundError:
        return 0
    except ValueError:
        return _delete_named(path, client_id)
    searches, events = (_leave_out(rows, client_id) for rows in (batch.searches, batch.events))
    kept = Batch(searches, events, batch.refusals, batch.batch_id)
    if len(batch) and not len(kept):
        path.unlink()
    elif len(kept) < len(batch):
        _write(path, vars(kept))
    return len(batch) - len(kept)


def _delete_named(path: Path, client_id: str) -> int:
    is_named = json.dumps(client_id).encode() in path.read_bytes()
    if is_named:
        path.unlink()
    return int(is_named)


def _leave_out(rows: Sequence[Any], client_id: str) -> list[Any]:
    return [row for row in rows if not (isinstance(row, dict) and row.get("client_id") == client_id)]


def prune(before: datetime, drafts_before: datetime) -> int:
    """Delete what was set aside before then, and what writers killed while writing left; return how many files."""
    found = [(path, before) for path in find_folder().glob("*.refused")]
    found += [(path, drafts_before) for path in find_folder().glob("*.draft")]
    old = [path for path, limit in found if _find_written(path) < limit.timestamp()]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _find_written(path: Path) -> float:
    """Return when a file was written, in seconds since the epoch; infinity for one that is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def count_set_aside() -> int:
    return sum(1 for _ in find_folder().glob("*.refused"))
