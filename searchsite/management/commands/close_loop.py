"""Go once around the whole loop, with simulated shoppers."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, cast

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from retrieval.engine.types import EngineError
from searchsite.loop import Loop, Row, Size


class Command(BaseCommand):
    help = (
        "From clicks to a better ranking: simulated shoppers use the search, two towers learn from their clicks "
        "alone, are compared by true grades, interleaved, tested and promoted, and a broken ranking is stopped by its "
        "guardrails. It fills the shop of SEARCHSITE_DATA_DIR, which should be one of its own (make loop)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        for field in fields(Size):
            parser.add_argument(f"--{field.name}", type=int, default=field.default, metavar="N")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        size = Size(**{field.name: options[field.name] for field in fields(Size)})
        call_command("migrate", verbosity=0)
        loop = Loop(Path(settings.DATA_DIR) / "loop", size, self._tell)
        started_at, rows = time.perf_counter(), list[Row]()
        try:
            for row in loop.run():
                rows.append(row)
                self._tell(f"{row.step}: {row.result}")
        except EngineError as error:
            raise CommandError(str(error)) from error
        minutes = (time.perf_counter() - started_at) / 60
        if options["json"]:
            self.stdout.write(json.dumps({"rows": [asdict(row) for row in rows], "minutes": round(minutes, 1)}))
            return
        table = Table("step", "result", title=f"The loop, {minutes:.1f} minutes")
        for row in rows:
            table.add_row(row.step, row.result)
        Console(file=cast(IO[str], self.stdout)).print(table)
        self.stdout.write("The reports: manage.py serve, then /reports/")

    def _tell(self, text: str) -> None:
        self.stderr.write(f"{time.strftime('%H:%M:%S')} {text}")
