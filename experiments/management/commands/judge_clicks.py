"""Make judgements from what shoppers clicked."""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.clicks.grades import MINIMUM_CLICKS, MINIMUM_EXAMINED
from experiments.judgements import MODELS, JudgedClicks, judge_clicks
from experiments.management.commands.export_ubi import read_time
from retrieval.evaluation.judgements import JudgementsError


class Command(BaseCommand):
    help = (
        "Make a judgement set from searches and clicks, cleared of the bias of positions. Run again, the set is made "
        "anew. Grades are relative to the best product of the same query, 3 for the best; products that nobody looked "
        "at have none. Bots, filtered and sorted lists and what is not on the first page are left out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        models = "; ".join(f"{name}: {told}" for name, told in MODELS.items())
        parser.add_argument("name", metavar="NAME", help="the judgement set; made if it is not there")
        parser.add_argument("--model", choices=MODELS, default="pbm", help=f"{models} (default: pbm)")
        parser.add_argument("--since", type=read_time, metavar="TIME", help="from this day or time on, in UTC")
        parser.add_argument("--until", type=read_time, metavar="TIME", help="before this day or time, in UTC")
        parser.add_argument(
            "--minimum-examined", type=float, default=MINIMUM_EXAMINED, metavar="N",
            help=f"estimated looks at a product, needed for a grade (default: {MINIMUM_EXAMINED:g})",
        )  # fmt: skip
        parser.add_argument(
            "--minimum-clicks", type=int, default=MINIMUM_CLICKS, metavar="N",
            help=f"clicks that a query needs for grades (default: {MINIMUM_CLICKS})",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        examined, clicks = options["minimum_examined"], options["minimum_clicks"]
        if not (math.isfinite(examined) and examined >= 1):
            raise CommandError(f"--minimum-examined {examined:g}: expected 1 or more")
        if clicks < 1:
            raise CommandError(f"--minimum-clicks {clicks}: expected 1 or more")
        try:
            done = judge(name, options)
        except JudgementsError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done), ensure_ascii=False, cls=DjangoJSONEncoder))
        else:
            self.stdout.write(f"{name}: {done}")


def judge(name: str, options: dict[str, Any]) -> JudgedClicks:
    """Return what was judged; a bar shows the progress where there is a terminal."""
    chosen = {key: options[key] for key in ("model", "since", "until", "minimum_examined", "minimum_clicks")}
    columns = TextColumn("Reading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("read", total=None)
        return judge_clicks(
            name, **chosen, on_progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
