"""Let simulated shoppers use the shop."""

from __future__ import annotations

import json
import math
import sys
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from catalog.money import format_price
from experiments.shoppers import KINDS, Population, ShopperModel
from retrieval.engine.types import EngineError
from retrieval.evaluation.judgements import JudgementsError
from searchsite.simulated_counts import Counts, Simulated
from searchsite.simulated_truth import FORMS, SAMPLE, Truth, read_truth
from searchsite.simulation import Plan, SimulationError, backdate, simulate_shoppers

MOST_VISITORS, MOST_DAYS = 200_000, 365


class Command(BaseCommand):
    help = (
        "Let simulated shoppers search, click and buy, with the same code as real ones and in the experiments that "
        "run: biased by position, heavy-tailed, partly returning, bots among them. All of it is marked as simulated; "
        "remove_simulated deletes it. No order is placed and no stock taken."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--visitors", type=int, required=True, metavar="N", help="how many visitors")
        parser.add_argument("--seed", type=int, required=True, metavar="S", help="other seeds are other visitors")
        parser.add_argument("--days", type=float, default=7, metavar="D", help="days up to now (default: 7)")
        parser.add_argument(
            "--click-model", choices=KINDS, default="pbm",
            help="pbm: each position is looked at by itself; cascade: from the top down (default: pbm)",
        )  # fmt: skip
        parser.add_argument(
            "--bots", type=float, default=Population().bot_share, metavar="SHARE",
            help=f"share of visitors that are programs, 0 to 1 (default: {Population().bot_share:g})",
        )  # fmt: skip
        parser.add_argument(
            "--truth", default=SAMPLE, metavar="TRUTH",
            help=f"which product answers which query: {FORMS} (default: {SAMPLE})",
        )  # fmt: skip
        parser.add_argument(
            "--backdate", action="store_true", help="running experiments begin with the simulated days, to count them"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        check_amounts(options["visitors"], options["seed"], options["days"], options["bots"])
        model, population = ShopperModel(kind=options["click_model"]), Population(bot_share=options["bots"])
        plan = Plan(options["visitors"], options["seed"], options["days"], model=model, population=population)
        started_at = time.perf_counter()
        try:
            truth = read_truth(options["truth"])
            if options["backdate"]:
                backdate(plan.since)
            done = simulate(truth, plan)
        except (EngineError, JudgementsError, SimulationError) as error:
            raise CommandError(str(error)) from error
        seconds = time.perf_counter() - started_at
        if options["json"]:
            self.stdout.write(json.dumps(to_facts(done) | {"seconds": round(seconds, 1)}, ensure_ascii=False))
            return
        Console().print(to_table(done))
        self.stdout.write(f"{done.total.searches / seconds:,.0f} searches a second, {seconds:,.0f} s")
        for note in done.notes:
            self.stdout.write(f"Note: {note}")


def check_amounts(visitors: int, seed: int, days: float, bots: float) -> None:
    """Raise CommandError, naming the option, for what cannot be simulated."""
    if not 1 <= visitors <= MOST_VISITORS:
        raise CommandError(f"--visitors {visitors}: expected 1 to {MOST_VISITORS}; run again for other seeds")
    if seed < 0:
        raise CommandError(f"--seed {seed}: expected 0 or more")
    if not (math.isfinite(days) and 0 < days <= MOST_DAYS):
        raise CommandError(f"--days {days:g}: expected above 0 and at most {MOST_DAYS}")
    if not 0 <= bots <= 1:
        raise CommandError(f"--bots {bots:g}: expected 0 to 1")


def simulate(truth: Truth, plan: Plan) -> Simulated:
    """Return what was simulated; a bar shows the progress where there is a terminal."""
    columns = TextColumn("Shopping"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("shop", total=None)
        return simulate_shoppers(truth, plan, lambda done, total: bar.update(task, completed=done, total=total))


def to_facts(done: Simulated) -> dict[str, Any]:
    """Return the counts of all visitors, those of each running experiment's variants, and the notes."""
    facts = asdict(done)
    total: dict[str, Any] = facts.pop("total")
    return total | facts


def to_table(done: Simulated) -> Table:
    """Return the counts of all visitors and of each running experiment's variants."""
    table = Table("", "visitors", "searches", "clicks", "adds", "purchases", "revenue")
    _add_row(table, "all", done.total)
    for experiment, variants in done.variants.items():
        for variant, counts in variants.items():
            _add_row(table, f"{experiment}: {variant}", counts)
    return table


def _add_row(table: Table, name: str, counts: Counts) -> None:
    numbers = counts.visitors, counts.searches, counts.clicks, counts.adds, counts.purchases
    revenue = format_price(counts.revenue_cents, settings.SEARCHSITE["CURRENCY"])
    table.add_row(name, *(f"{number:,}" for number in numbers), revenue)
