"""Take events that wait on disk into the database."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from experiments import spool
from experiments.intake import take_in_spool


class Command(BaseCommand):
    help = "Take what visitors did and no worker has taken in yet from disk into the database. Safe at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        waiting = spool.count_waiting()
        try:
            rows = take_in_spool()
        except DatabaseError as error:
            raise CommandError(f"the database does not take them, they stay on disk: {error}") from error
        facts = {"batches": waiting, "rows": rows}
        told = f"{waiting:,} batches taken in, {rows:,} rows were new"
        self.stdout.write(json.dumps(facts) if options["json"] else told)
