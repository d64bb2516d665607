"""Measure what the live index and its model are like."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from retrieval import diagnostics
from retrieval.engine.types import EngineError
from retrieval.evaluation.findings import BAD, GOOD, NOTE, find_all

COLOURS = {GOOD: "green", BAD: "red", NOTE: "cyan"}


class Command(BaseCommand):
    help = (
        "Measure the live index and its model over a sample: recall of the graph, stale vectors, texts cut, how "
        "vectors lie in their space, near-duplicates, what smaller vectors lose, queries out of place. "
        "The admin page of diagnostics shows the report."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--whitening", type=Path, metavar="FILE.npz", help="write mean and matrix that whiten")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, whitening: Path | None, **options: Any) -> None:
        if whitening and not whitening.parent.is_dir():
            raise CommandError(f"--whitening {whitening}: there is no folder {whitening.parent}; make it first")
        try:
            report = diagnostics.diagnose_and_keep()
            if whitening:
                diagnostics.write_whitening(whitening)
        except (EngineError, OSError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            _print(Console(), report)


def _print(console: Console, report: diagnostics.Report) -> None:
    console.print(
        f"{report['generation']}, {report['model_version']}: {report['products']:,} products, "
        f"{report['sampled_queries']} {report['query_source']}, in {report['seconds']} s",
        highlight=False,
    )
    for finding in find_all(report):
        value = f"[{COLOURS[finding.state]}]{finding.value}[/]"
        console.print(f"{finding.title}: {value}. {finding.meaning}", highlight=False)
        if finding.cure:
            console.print(f"  {finding.cure}", highlight=False)
