"""What a training keeps in its folder, so that it goes on after a kill with the very data it began with."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from django.conf import settings

from retrieval.engine.types import Document
from retrieval.learning.examples import LabelledQuery
from retrieval.training_data import Collected

FOLDER, DATA, TRIES = "trainings", "data.json.gz", "tries"


def trainings_dir() -> Path:
    return Path(settings.DATA_DIR) / FOLDER


def folder_of(run_id: int) -> Path:
    """Return where a training keeps its data and checkpoints while it is not finished."""
    return trainings_dir() / str(run_id)


def forget(run_id: int) -> None:
    """Remove all that a training kept."""
    shutil.rmtree(folder_of(run_id), ignore_errors=True)


def count_try(run_id: int) -> int:
    """Return how often this training was begun, this time included."""
    path = folder_of(run_id) / TRIES
    path.parent.mkdir(parents=True, exist_ok=True)
    number = int(path.read_text()) + 1 if path.is_file() else 1
    path.write_text(str(number))
    return number


def forget_tries(run_id: int) -> None:
    (folder_of(run_id) / TRIES).unlink(missing_ok=True)


def save_collected(folder: Path, collected: Collected) -> None:
    """Write what was collected; its readers see all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{DATA}"
    with gzip.open(temporary, "wt", encoding="utf-8", errors="surrogatepass", compresslevel=1) as file:
        json.dump(
            {
                "queries": [_to_row(query) for query in collected.queries],
                "held_out": [_to_row(query) for query in collected.held_out],
                "documents": [_to_dict(document) for document in collected.documents.values()],
                "report": collected.report,
            },
            file,
            ensure_ascii=False,
        )
    temporary.replace(folder / DATA)


def load_collected(folder: Path) -> Collected | None:
    """Return what was collected for the training in `folder`, None where it never got that far."""
    path = folder / DATA
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8", errors="surrogatepass") as file:
        kept = json.load(file)
    documents = [Document(**{**values, "category": tuple(values["category"])}) for values in kept["documents"]]
    return Collected(
        _to_queries(kept["queries"]),
        _to_queries(kept["held_out"]),
        {document.product_id: document for document in documents},
        kept["report"],
    )


def _to_dict(document: Document) -> dict[str, Any]:
    values = {one.name: getattr(document, one.name) for one in fields(document)}
    return values | {"attributes": dict(document.attributes)}


def _to_row(query: LabelledQuery) -> dict[str, Any]:
    """Return the query without `unsure`, which is found anew from the products."""
    return {name: value for name, value in asdict(query).items() if name != "unsure"}


def _to_queries(rows: Iterable[dict[str, Any]]) -> list[LabelledQuery]:
    return [
        LabelledQuery(**{**row, "grades": {int(product_id): grade for product_id, grade in row["grades"].items()}})
        for row in rows
    ]
