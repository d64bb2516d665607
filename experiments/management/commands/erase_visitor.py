"""Forget one visitor."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from experiments.retention import erase


class Command(BaseCommand):
    help = (
        "Delete everything kept of a visitor, and say how much it was. The id stands in the cookie `visitor`. "
        "What the visitor did within the last seconds may still be on its way: run it again a minute later."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("client_id", metavar="CLIENT_ID", help="the visitor's id")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, client_id: str, **options: Any) -> None:
        try:
            counts = erase(client_id)
        except ValueError as error:
            raise CommandError(str(error)) from error
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        self.stdout.write(json.dumps(counts) if options["json"] else f"Deleted: {told}")
