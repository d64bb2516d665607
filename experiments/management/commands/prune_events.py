"""Delete what is older than events are kept."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from experiments.retention import prune


class Command(BaseCommand):
    help = "Delete searches, events and counts that are older than events are kept. A worker does so every day."

    def add_arguments(self, parser: ArgumentParser) -> None:
        kept = settings.SEARCHSITE["EVENT_RETENTION_DAYS"]
        parser.add_argument("--older-than", type=int, default=kept, metavar="DAYS", help=f"days (default: {kept})")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, older_than: int, **options: Any) -> None:
        if older_than < 0:
            raise CommandError(f"--older-than {older_than}: expected days, 0 or more")
        pruned = prune(timedelta(days=older_than))
        told = f"{pruned.searches:,} searches and {pruned.events:,} events deleted"
        self.stdout.write(json.dumps(asdict(pruned)) if options["json"] else told)
