"""Delete what was simulated."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from retrieval.evaluation.judgements import JudgementsError
from searchsite.simulation import remove_simulated


class Command(BaseCommand):
    help = (
        "Delete all searches, events and sums of simulated shoppers, and say how much it was; what real visitors did "
        "stays as it is. Reports that counted simulated shoppers are made anew."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--judgements", action="append", default=[], metavar="NAME",
            help="delete this judgement set made of clicks, too; may be given several times",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, judgements: list[str], **options: Any) -> None:
        try:
            counts = remove_simulated(judgements)
        except JudgementsError as error:
            raise CommandError(str(error)) from error
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        self.stdout.write(json.dumps(counts) if options["json"] else f"Deleted: {told}")
