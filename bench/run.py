"""Run all benches and rewrite the table in README."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from bench.shops import FOLDER, ROOT

SCRIPTS = ("search", "ingest", "quality")
README = ROOT / "README.md"
START, END = "<!-- bench: start -->", "<!-- bench: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", help=f"which to run, of {', '.join(SCRIPTS)} (default: all)")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured last")
    arguments = parser.parse_args()
    wanted = arguments.scripts or SCRIPTS
    if unknown := set(wanted) - set(SCRIPTS):
        parser.error(f"unknown bench {min(unknown)!r}, expected one of: {', '.join(SCRIPTS)}")
    for name in [] if arguments.table else wanted:
        print(f"bench/{name}.py …", flush=True)
        command = [sys.executable, "-m", f"bench.{name}", "--json"]
        output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
        (FOLDER / f"{name}.json").write_text(output, encoding="utf-8")
    found = {name: json.loads(path.read_text()) for name in SCRIPTS if (path := FOLDER / f"{name}.json").exists()}
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    README.write_text(f"{before}{START}\n{to_markdown(found)}{END}{rest.partition(END)[2]}", encoding="utf-8")
    failed = [claim["name"] for report in found.values() for claim in report["claims"] if claim["holds"] is False]
    print("\n".join(f"does not hold: {name}" for name in failed) or "every bar holds")


def to_markdown(found: dict[str, Any]) -> str:
    """Return the claims as tables, the machine named before them."""
    machines = dict.fromkeys(report["machine"] for report in found.values())
    lines = [f"Measured on {'; '.join(machines)}."]
    for name, report in found.items():
        rankings = [claim for claim in report["claims"] if ": " in claim["name"] and ", " in claim["name"]]
        others = [claim for claim in report["claims"] if claim not in rankings]
        if others and not rankings:
            lines += ["", f"| `bench/{name}.py` | measured | held to |", "|---|---:|---:|", *map(to_row, others)]
        for is_pair in (False, True):
            part = [claim for claim in rankings if ("−" in claim["name"]) == is_pair]
            lines += to_grid(f"`bench/{name}.py`" + (", paired differences" if is_pair else ""), part) if part else []
    return "\n".join(lines) + "\n"


def to_row(claim: dict[str, Any]) -> str:
    value = f"{format_value(claim['value'])} {claim['unit']}".strip()
    return f"| {claim['name']} | {value}{mark(claim)} | {show_bar(claim)} |"


def to_grid(title: str, claims: list[dict[str, Any]]) -> list[str]:
    """Return a table of claims named 'shop: config, metric', a row for each config and a column for each metric."""
    rows: dict[str, dict[str, str]] = {}
    for claim in claims:
        row, _, column = claim["name"].partition(", ")
        bar = f" ({show_bar(claim)})" if claim["bar"] else ""
        rows.setdefault(row, {})[column] = f"{claim['value']:.3f}{mark(claim)}{bar}"
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = ["", f"| {title} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return head + [
        f"| {row} | {' | '.join(cells.get(column, '') for column in columns)} |" for row, cells in rows.items()
    ]


def mark(claim: dict[str, Any]) -> str:
    return " ✗" if claim["holds"] is False else ""


def show_bar(claim: dict[str, Any]) -> str:
    return str(claim["bar"]).replace("<=", "≤").replace(">=", "≥")


def format_value(value: float) -> str:
    """Return four significant digits, thousands grouped: 12,345; 98.7; 0.8569."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


if __name__ == "__main__":
    main()
