"""Claims and how they are printed: every figure in README comes through here."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from retrieval.evaluation.compare import Estimate


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure. `bar` is what it is held to, such as '<= 15'; without one it is told, not judged."""

    name: str
    value: float
    unit: str = ""
    bar: str = ""

    @property
    def holds(self) -> bool | None:
        if not self.bar:
            return None
        sign, limit = self.bar.split()
        return self.value <= float(limit) if sign == "<=" else self.value >= float(limit)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


def describe_machine() -> str:
    """Return processor, cores, memory and Python of this machine."""
    facts = dict(
        line.split(":", 1)
        for path in (Path("/proc/cpuinfo"), Path("/proc/meminfo"))
        if path.exists()
        for line in path.read_text().splitlines()
        if ":" in line
    )
    model = next((value.strip() for name, value in facts.items() if name.strip() == "model name"), platform.machine())
    memory_gib = int(facts.get("MemTotal", "0 kB").split()[0]) / 2**20
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def run(description: str, measure: Callable[[argparse.Namespace], Iterable[Claim]], **options: Any) -> None:
    """Measure and print: the whole `main` of a script. `options`: argparse arguments by their long name."""
    parser = argparse.ArgumentParser(description=description)
    for name, settings in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    claims = list(measure(arguments))
    if arguments.json:
        facts = {"machine": describe_machine(), "claims": [claim.to_dict() for claim in claims]}
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print_table(claims)


def with_ends(name: str, estimate: Estimate, bar: str = "", low_bar: str = "") -> Iterator[Claim]:
    """Yield a mean and the ends of its interval, held to `bar` and the low one to `low_bar`."""
    yield Claim(name, estimate.mean, "", bar)
    yield Claim(f"{name}, low end of 95 %", estimate.low, "", low_bar)
    yield Claim(f"{name}, high end of 95 %", estimate.high)


def make_parts_option(names: Collection[str]) -> dict[str, Any]:
    """Return the option of a script that measures all of these parts, or those that are named."""

    def parse(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in names]:
            raise argparse.ArgumentTypeError(f"unknown part {unknown[0]!r}, expected one of: {', '.join(names)}")
        return text.split(",")

    return {
        "type": parse,
        "default": list(names),
        "help": f"what to measure, with commas between, of {', '.join(names)} (default: all)",
    }


def print_table(claims: Iterable[Claim]) -> None:
    table = Table("claim", "value", "bar", "holds", title=describe_machine())
    for claim in claims:
        holds = {None: "", True: "yes", False: "[red]NO[/red]"}[claim.holds]
        table.add_row(claim.name, f"{claim.value:,.4g} {claim.unit}".strip(), claim.bar, holds)
    Console(width=140).print(table)
