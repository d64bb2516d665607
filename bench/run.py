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
    wanted = parser.parse_args().scripts or SCRIPTS
    if unknown := set(wanted) - set(SCRIPTS):
        parser.error(f"unknown bench {min(unknown)!r}, expected one of: {', '.join(SCRIPTS)}")
    for name in wanted:
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
    """Return the claims as a table, the machine named before it."""
    machines = dict.fromkeys(report["machine"] for report in found.values())
    lines = [f"Measured on {'; '.join(machines)}.", "", "| what | measured | held to |", "|---|---:|---:|"]
    for name, report in found.items():
        lines.append(f"| **`bench/{name}.py`** | | |")
        for claim in report["claims"]:
            bar = claim["bar"].replace("<=", "≤").replace(">=", "≥")
            mark = " ✗" if claim["holds"] is False else ""
            lines.append(f"| {claim['name']} | {format_value(claim['value'])} {claim['unit']}{mark} | {bar} |")
    return "\n".join(lines) + "\n"


def format_value(value: float) -> str:
    """Return four significant digits, thousands grouped: 12,345; 98.7; 0.8569."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


if __name__ == "__main__":
    main()
