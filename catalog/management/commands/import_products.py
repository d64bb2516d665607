"""Bring a catalogue file in."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from catalog.columns import FIELDS
from catalog.imports import import_file
from catalog.models import ImportRun
from catalog.readers import FORMATS, ImportRefused

COUNTS = ("rows", "created", "updated", "unchanged", "rejected", "deactivated")
SHOWN_REJECTIONS = 5


class Command(BaseCommand):
    help = (
        "Import products from a file: CSV, TSV, JSON Lines, a JSON array, Parquet, a Google Merchant feed or a Shopify "
        "product export, plain or gzip. Products go by SKU; only what changed is written, and what the file has no "
        "column for stays as it is. A killed import can be run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="the file to import")
        parser.add_argument("--format", choices=FORMATS, help="its format (default: found out)")
        parser.add_argument(
            "--map",
            action="append",
            default=[],
            metavar="COLUMN=FIELD",
            help=f"which field a column is, may be given several times; fields: {', '.join(FIELDS)}, "
            "attributes.NAME, ignore",
        )
        parser.add_argument("--dry-run", action="store_true", help="count and check, write nothing")
        parser.add_argument("--full", action="store_true", help="deactivate products that the file does not list")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            with _ProgressBar(file.name) as bar:
                run = import_file(
                    file,
                    source=str(file),
                    format=options["format"],
                    mapping=dict(map(_split_pair, options["map"])),
                    is_dry_run=options["dry_run"],
                    is_full=options["full"],
                    on_progress=bar.show,
                )
        except ImportRefused as error:
            raise CommandError(str(error)) from error
        rejections = list(run.rejections.values("row", "column", "value", "reason")[:SHOWN_REJECTIONS])
        facts = {"run": run.pk, "format": run.format} | {name: getattr(run, name) for name in COUNTS}
        if options["json"]:
            self.stdout.write(json.dumps(facts | {"first_rejections": rejections}, ensure_ascii=False))
            return
        told = "Dry run, nothing written: " if run.is_dry_run else ""
        self.stdout.write(told + ", ".join(f"{getattr(run, name):,} {name}" for name in COUNTS))
        for found in rejections:
            where = f"row {found['row']}" + (f", {found['column']} {found['value'][:80]!r}" if found["column"] else "")
            self.stderr.write(f"  rejected: {where}: {found['reason']}")
        if run.rejected > len(rejections):
            self.stderr.write(f"  … all of them in the admin, under Import runs, number {run.pk}")


def _split_pair(text: str) -> tuple[str, str]:
    column, sign, target = text.rpartition("=")
    if not sign or not column or not target:
        raise CommandError(f"--map {text!r}: expected COLUMN=FIELD, such as --map Bezeichnung=title")
    return column, target


class _ProgressBar:
    """How much of the file is read, and what became of the rows; silent where there is no terminal."""

    def __init__(self, name: str) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task = self._progress.add_task(name, total=None, counts="")

    def __enter__(self) -> _ProgressBar:
        self._progress.start()
        return self

    def show(self, run: ImportRun) -> None:
        counts = f"{run.rows:,} rows, {run.rejected:,} rejected"
        self._progress.update(self._task, completed=run.bytes_read, total=run.bytes_total or None, counts=counts)

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
