"""Write the event log as User Behavior Insights 1.3."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date, parse_datetime
from rich.console import Console
from rich.progress import Progress

from experiments.ubi_files import EVENTS, QUERIES, export_ubi


class Command(BaseCommand):
    help = (
        f"Write searches and events as User Behavior Insights 1.3, JSON Lines, to {QUERIES} and {EVENTS} in a folder. "
        "import_ubi reads them back without loss."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to; made if it is not there")
        parser.add_argument("--since", type=read_time, metavar="TIME", help="from this day or time on, in UTC")
        parser.add_argument("--until", type=read_time, metavar="TIME", help="before this day or time, in UTC")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        try:
            with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
                task = bar.add_task(folder.name, total=None)
                done = export_ubi(folder, options["since"], options["until"], lambda rows: bar.advance(task, rows))
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error}") from error
        told = f"{done.queries:,} queries and {done.events:,} events written to {folder}"
        self.stdout.write(json.dumps(asdict(done)) if options["json"] else told)


def read_time(text: str) -> datetime:
    """Return the day or time of ISO 8601, in UTC where it names no offset; raises ArgumentTypeError for others."""
    try:
        found = parse_datetime(text)
        if found is None and (day := parse_date(text)):
            found = datetime(day.year, day.month, day.day)
    except ValueError:  # well formed, but no such day
        found = None
    if found is None:
        raise ArgumentTypeError(f"{text!r}: expected a day or time such as 2026-03-01")
    return found if found.tzinfo else found.replace(tzinfo=UTC)
