"""Bring an event log in, written by export_ubi or by anything else that speaks User Behavior Insights."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress, TaskID

from experiments.ubi_files import Import, import_ubi

SHOWN_ERRORS = 10


class Command(BaseCommand):
    help = (
        "Import queries and events of User Behavior Insights 1.3 from JSON Lines, in any order. What is there already "
        "is left as it is, so an import can be run again. A bad line is told by its number, the others are taken."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files of JSON Lines")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, files: list[Path], **options: Any) -> None:
        done = Import()
        try:
            with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
                for path in files:
                    task = bar.add_task(path.name, total=path.stat().st_size)
                    import_ubi(path, done, partial(_show, bar, task))
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}") from error
        if options["json"]:
            self.stdout.write(json.dumps(done.to_dict(SHOWN_ERRORS), ensure_ascii=False))
            return
        self.stdout.write(f"{done.accepted:,} taken, {done.duplicates:,} were there before, {done.refused:,} refused")
        for told in done.errors[:SHOWN_ERRORS]:
            self.stderr.write(f"  refused: {told}")
        if done.refused > SHOWN_ERRORS:
            self.stderr.write(f"  … and {done.refused - SHOWN_ERRORS:,} more")


def _show(bar: Progress, task: TaskID, read: int) -> None:
    bar.update(task, completed=read)
