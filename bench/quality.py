"""How good are the rankings, on a real catalogue with ratings and on the sample shop with its known truth?"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.report import Claim, run
from bench.shops import Shop, open_icecat, open_sample

NDCG, CONDENSED, JUDGED = "nDCG@10", "condensed nDCG@10", "Judged@10"
Rankings = dict[str, dict[str, list[float]]]  # by config and metric, a value for each query


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    bars = {NDCG: ">= 0.845", CONDENSED: ">= 0.85", "R(rel=3)@100": ">= 0.95"}
    yield from measure_shop(open_icecat(), bars)
    yield from measure_shop(open_sample(arguments.sample_products), {})


def measure_shop(shop: Shop, bars: dict[str, str]) -> Iterator[Claim]:
    """Yield the figures of the default config, and its paired differences to either side alone."""
    found = evaluate(shop, "lexical", "dense", "hybrid")
    yield Claim(f"{shop.name}: queries", found["queries"])
    for config, metrics in found["configs"].items():
        for metric, value in metrics.items():
            bar = bars.get(metric, "") if config == "hybrid" else ""
            yield Claim(f"{shop.name}: {config}, {metric}", value["mean"], "", bar)
    for pair in found["pairs"]:
        if pair["config"] == "hybrid" and pair["metric"] in (NDCG, CONDENSED):
            name = f"{shop.name}: hybrid − {pair['baseline']}, {pair['metric']}"
            yield Claim(name, pair["mean"])
            yield Claim(f"{name}, low end of 95 %", pair["low"], "", ">= 0" if pair["metric"] == NDCG else "")


def evaluate_queries(shop: Shop, *configs: str) -> Rankings:
    """Return what each query's ranking is worth, by config and metric, the queries in the same order each time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.tsv"
        evaluate(shop, *configs, options=("--per-query", str(path)))
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    metrics = [name for name in rows[0] if name not in ("query_id", "query", "config", "results")]
    return {
        config: {name: [float(row[name]) for row in rows if row["config"] == config] for name in metrics}
        for config in configs
    }


def evaluate(shop: Shop, *configs: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `manage.py evaluate` says of these configs."""
    chosen = [option for config in configs for option in ("--config", config)]
    files = ("--queries", str(shop.queries), "--qrels", str(shop.qrels))
    found: dict[str, Any] = json.loads(shop.manage("evaluate", *files, *chosen, *options, "--json"))
    return found


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        sample_products={"type": int, "default": 5000, "help": "size of the sample shop (default: 5000)"},
    )
