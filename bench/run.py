"""Run benches and write what they measured where README and docs have a place for it."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.shops import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ENDS = (", low end of 95 %", ", high end of 95 %")
START, NAMED, END = "<!-- bench: ", " -->\n", "<!-- bench -->"


def main() -> None:
    places = find_places(PAGES)
    usual = [name for name, page in places.items() if page == PAGES[0]]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "benches", nargs="*", default=usual, metavar="bench",
        help=f"which, options in one word with quotes, of: {', '.join(places)} (default: {', '.join(usual)})",
    )  # fmt: skip
    wanted = parser.parse_args().benches
    if unknown := set(wanted) - set(places):
        parser.error(f"no page has a place for {min(unknown)!r}, expected one of: {', '.join(places)}")
    failed = [name for bench in wanted for name in measure(bench, places[bench])]
    print("\n".join(f"does not hold: {name}" for name in failed) or "every bar holds")


def find_places(pages: tuple[Path, ...]) -> dict[str, Path]:
    """Return the page of each bench that has a place, in the order of the pages."""
    return {
        part.partition(NAMED)[0]: page for page in pages for part in page.read_text(encoding="utf-8").split(START)[1:]
    }


def measure(bench: str, page: Path) -> list[str]:
    """Run a bench, write its claims into the page, and return the names of those that do not hold."""
    print(f"{bench} …", flush=True)
    script, *options = shlex.split(bench)
    command = [sys.executable, "-m", f"bench.{script}", *options, "--json"]
    report = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    text = page.read_text(encoding="utf-8")  # now: a bench takes long, and people write meanwhile
    before, start, rest = text.partition(f"{START}{bench}{NAMED}")
    if not start or END not in rest:
        raise SystemExit(f"{page.name} has no place for {bench!r} any more: {json.dumps(report)}")
    page.write_text(f"{before}{start}{to_markdown(script, report)}{END}{rest.partition(END)[2]}", encoding="utf-8")
    return [claim["name"] for claim in report["claims"] if claim["holds"] is False]


def to_markdown(name: str, report: dict[str, Any]) -> str:
    """Return the claims as tables, the machine named before them."""
    rankings = [claim for claim in report["claims"] if ": " in claim["name"] and ", " in claim["name"]]
    others = [claim for claim in report["claims"] if claim not in rankings]
    lines = [f"`bench/{name}.py`, measured on {report['machine']}."]
    if others:
        lines += ["", "| | measured | held to |", "|---|---:|---:|", *map(to_row, others)]
    for is_pair in (False, True):
        part = [claim for claim in rankings if ("−" in claim["name"]) == is_pair]
        lines += to_grid("paired differences" if is_pair else "", part) if part else []
    return "\n".join(lines) + "\n"


def to_row(claim: dict[str, Any]) -> str:
    value = f"{format_value(claim['value'])} {claim['unit']}".strip()
    return f"| {claim['name']} | {value}{mark(claim)} | {show_bar(claim)} |"


def to_grid(title: str, claims: list[dict[str, Any]]) -> list[str]:
    """Return a table of claims named 'shop: config, metric', a row for each config and a column for each metric.

    Both ends of an interval stand in the cell of what they are the ends of.
    """
    by_name = {claim["name"]: claim for claim in claims}
    rows: dict[str, dict[str, str]] = {}
    for name, claim in by_name.items():
        if any(name.endswith(end) and _find_ends(name.removesuffix(end), by_name) for end in ENDS):
            continue
        row, _, column = name.partition(", ")
        ends = " to ".join(to_cell(end) for end in _find_ends(name, by_name))
        rows.setdefault(row, {})[column] = ", ".join(filter(None, [to_cell(claim), ends]))
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = ["", f"| {title} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return head + [
        f"| {row} | {' | '.join(cells.get(column, '') for column in columns)} |" for row, cells in rows.items()
    ]


def _find_ends(name: str, by_name: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return both ends of the interval of the claim of this name, none where it has none."""
    names = [f"{name}{end}" for end in ENDS]
    return [by_name[each] for each in names] if {name, *names} <= by_name.keys() else []


def to_cell(claim: dict[str, Any]) -> str:
    bar = f" ({show_bar(claim)})" if claim["bar"] else ""
    return f"{claim['value']:.3f}{mark(claim)}{bar}"


def mark(claim: dict[str, Any]) -> str:
    return " ✗" if claim["holds"] is False else ""


def show_bar(claim: dict[str, Any]) -> str:
    return str(claim["bar"]).replace("<=", "≤").replace(">=", "≥")


def format_value(value: float) -> str:
    """Return four significant digits, thousands grouped: 12,345; 98.7; 0.8569."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


if __name__ == "__main__":
    main()
