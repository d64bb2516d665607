"""Batches of rows on disk until the database has them: files that are there whole or not at all."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings

Row = dict[str, Any]


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
    path = folder / f"{time.time_ns()}-{batch.batch_id}.json"
    draft = path.with_suffix(".draft")
    facts = {"batch_id": batch.batch_id, "searches": batch.searches, "events": batch.events}
    draft.write_text(json.dumps(facts | {"refusals": batch.refusals}), encoding="utf-8")
    return draft.rename(path)


def read(path: Path) -> Batch:
    """Return the batch in a file. Raises FileNotFoundError if it is gone, ValueError if it is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Batch(facts["searches"], facts["events"], Counter(facts["refusals"]), facts["batch_id"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} holds no batch of events: {error!r}") from error


def list_waiting(older_than_s: float = 0.0) -> list[Path]:
    """Return the files that wait, oldest first."""
    latest = time.time_ns() - int(older_than_s * 1e9)
    paths = sorted(find_folder().glob("*.json"))
    return [path for path in paths if find_time_ns(path) <= latest]


def find_time_ns(path: Path) -> int:
    """Return when the batch was spooled, in nanoseconds since the epoch."""
    return int(path.name.partition("-")[0])


def count_waiting() -> int:
    return sum(1 for _ in find_folder().glob("*.json"))


def set_aside(path: Path) -> None:
    """Keep a file that no database will ever take, where nobody tries again."""
    path.replace(path.with_suffix(".refused"))


def count_set_aside() -> int:
    return sum(1 for _ in find_folder().glob("*.refused"))
