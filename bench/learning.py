"""Does learning pay? The default reranker, and two towers tuned on a catalogue alone, on ratings neither has seen."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from bench.quality import CONDENSED, JUDGED, NDCG, evaluate
from bench.report import Claim, run
from bench.search import WARM_UP, time_requests
from bench.shops import FOLDER, Shop, fill, open_icecat, serve, wait_for
from retrieval.learning.examples import find_alike

RECALL = "R(rel=3)@100"
SHOWN = (NDCG, CONDENSED, JUDGED, RECALL)
LEAST_JUDGED = 0.95
SEED, DEPARTMENTS, RATED, SHOWN_FIRST = 3, 5, 80, 10
DEPARTMENT_TRAINING = (
    *("--source", "judgements:staff", "--source", "catalogue", "--catalogue-queries", "3000", "--base", "default"),
    *("--steps", "300", "--rerank-depth", "40", "--rerank-blend", "0.7"),
)


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    for name in arguments.parts.split(","):
        yield from PARTS[name](arguments)


def measure_reranker(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what the default reranker adds to the hybrid search, in quality and in time."""
    shop = replace(open_icecat(), settings={"SEARCHSITE_RERANKER": "default-reranker"})
    shop.manage("reindex", "--json")  # exports the reranker
    found = evaluate(shop, "hybrid", "hybrid-rerank")
    yield from show_means(shop, found)
    # Where much of what is shown was never rated, the figure over all of it counts every such product as wrong.
    is_rated = found["configs"]["hybrid-rerank"][JUDGED]["mean"] >= LEAST_JUDGED
    for metric in (NDCG, CONDENSED):
        bar = ">= 0.02" if is_rated == (metric == NDCG) else ""
        yield from show_gain(found, "hybrid-rerank", "hybrid", metric, bar)
    queries = shop.make_queries(WARM_UP + arguments.queries)
    timings = {config: time_api(shop, config, queries) for config in ("hybrid", "hybrid-rerank")}
    for share, name in ((0.5, "p50"), (0.95, "p95")):
        plain, reranked = (float(np.quantile(timings[config], share)) for config in ("hybrid", "hybrid-rerank"))
        yield Claim(f"API search without reranking, {name}", plain, "ms")
        yield Claim(f"reranking adds, {name}", reranked - plain, "ms", "<= 60" if name == "p95" else "")


def time_api(shop: Shop, config: str, queries: list[str]) -> list[float]:
    """Return the milliseconds of each query over HTTP, every one asked for the first time."""
    tuned = replace(shop, settings=shop.settings | {"SEARCHSITE_CONFIG": config})
    with serve(tuned, "--no-worker", "--no-learner") as site:
        wait_for(site, "/api/v1/search/?q=printer")
        time_requests(site, "/api/v1/search/", queries[:WARM_UP])
        return time_requests(site, "/api/v1/search/", queries[WARM_UP:])


def measure_cold_start(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what two towers tuned on queries made from the catalogue alone find, beside the ones they began as."""
    shop = copy_shop(open_icecat(), "icecat-cold-start")
    before = evaluate(shop, "dense", "hybrid")
    started = time.monotonic()
    made = json.loads(shop.manage("finetune", "--source", "catalogue", "--json", *arguments.finetune.split()))
    yield Claim("cold start: training", (time.monotonic() - started) / 60, "min", "<= 45")
    shop.manage("models", "promote", made["version"], "--force")
    after = evaluate(shop, "dense", "hybrid")
    for config in ("dense", "hybrid"):
        for metric in (NDCG, CONDENSED, RECALL):
            old, new = (found["configs"][config][metric]["mean"] for found in (before, after))
            yield Claim(f"cold start: {config}, {metric}", new)
            yield Claim(
                f"cold start: {config}, {metric}, gain", new - old, "", COLD_START_BARS.get((config, metric), "")
            )


def measure_departments(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what 800 ratings do for other queries of the same departments, from the model as it is installed."""
    shop, ratings = open_departments()
    yield Claim("departments: ratings", len(ratings.read_text(encoding="utf-8").splitlines()) - 1)
    started = time.monotonic()
    shop.manage("import_judgements", "staff", "--file", str(ratings), "--json")
    made = json.loads(shop.manage("train_reranker", "--json", *DEPARTMENT_TRAINING))
    yield Claim("departments: training, judging included", (time.monotonic() - started) / 60, "min", "<= 10")
    shop.manage("models", "promote", made["version"], "--force")
    found = evaluate(shop, "hybrid", "hybrid-rerank")
    yield from show_means(shop, found)
    yield from show_gain(found, "hybrid-rerank", "hybrid", NDCG, ">= 0.05")


COLD_START_BARS = {("dense", CONDENSED): ">= 0.02", ("dense", RECALL): ">= 0", ("hybrid", CONDENSED): ">= 0"}


def open_departments() -> tuple[Shop, Path]:
    """Return a shop of some departments of the sample shop, without a reranker, and a file of its people's ratings.

    What the search shows first for RATED queries is rated by the shop's truth; its other queries measure.
    """
    rng = random.Random(SEED)
    whole, folder = FOLDER / "departments-of", FOLDER / "departments"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if not (whole / "qrels.tsv").exists():
        Shop("all", folder, whole, whole, whole).manage(
            "make_sample_shop", str(whole), "--products", "25000", "--queries", "12000", "--seed", str(SEED)
        )
    with gzip.open(whole / "products.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    names = sorted({row["category"].partition(" > ")[0] for row in rows})
    chosen = tuple(f"{name} > " for name in rng.sample(names, DEPARTMENTS))
    rows = [row for row in rows if row["category"].startswith(chosen)]
    with gzip.open(folder / "products.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    grades = read_grades(whole, {row["sku"] for row in rows})
    queries = {key: text for key, text in read_table(whole / "queries.tsv") if key in grades}
    rated = rng.sample(sorted(queries), RATED)
    texts = [queries.pop(key) for key in rated]
    alike = find_alike(list(queries.values()), texts)
    queries = {key: text for (key, text), is_alike in zip(queries.items(), alike, strict=True) if not is_alike}
    write_table(folder / "queries.tsv", ("query_id", "query"), queries.items())
    write_table(
        folder / "qrels.tsv",
        ("query_id", "doc_id", "relevance"),
        [(key, sku, grade) for key in queries for sku, grade in grades[key].items()],
    )
    shop = fill(
        Shop(
            "departments",
            folder / "data",
            folder / "queries.tsv",
            folder / "qrels.tsv",
            folder / "products.jsonl.gz",
            {"SEARCHSITE_RERANKER": "none"},
        )
    )
    ratings = [
        (text, sku, grades[key].get(sku, 0))
        for key, text, skus in zip(rated, texts, show_first(shop, texts), strict=True)
        for sku in skus
    ]
    write_table(folder / "ratings.tsv", ("query", "sku", "grade"), ratings)
    return shop, folder / "ratings.tsv"


def show_first(shop: Shop, texts: list[str]) -> list[list[str]]:
    """Return the SKUs on the first page of each query."""
    with serve(shop, "--no-worker", "--no-learner") as site:
        wait_for(site, "/api/v1/search/?q=a")
        connection = site.connect()
        pages = []
        for text in texts:
            connection.request("GET", f"/api/v1/search/?{urlencode({'q': text, 'page_size': SHOWN_FIRST})}")
            pages.append(json.loads(connection.getresponse().read()))
    return [[hit["sku"] for hit in page["hits"]] for page in pages]


def read_grades(folder: Path, skus: set[str]) -> dict[str, dict[str, int]]:
    """Return the grades by query and SKU of those queries that only these products answer."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    elsewhere = set()
    for query_id, sku, grade in read_table(folder / "qrels.tsv"):
        if sku in skus:
            found[query_id][sku] = int(grade)
        elif grade == "3":
            elsewhere.add(query_id)
    return {key: grades for key, grades in found.items() if key not in elsewhere and 3 in grades.values()}


def read_table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"))[1:]


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writerows([header, *rows])


def copy_shop(shop: Shop, name: str) -> Shop:
    """Return a fresh copy of the shop, so that what is promoted there stays there."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(shop.data_dir, folder, ignore=shutil.ignore_patterns("trainings", "cache", "queue"))
    return replace(shop, name=name, data_dir=folder)


def show_means(shop: Shop, found: dict[str, Any]) -> Iterator[Claim]:
    yield Claim(f"{shop.name}: queries", found["queries"])
    for config, metrics in found["configs"].items():
        for metric in SHOWN:
            yield Claim(f"{shop.name}: {config}, {metric}", metrics[metric]["mean"])


def show_gain(found: dict[str, Any], config: str, baseline: str, metric: str, bar: str) -> Iterator[Claim]:
    """Yield the paired difference and the ends of its interval."""
    pair = next(
        each for each in found["pairs"]
        if (each["config"], each["baseline"], each["metric"]) == (config, baseline, metric)
    )  # fmt: skip
    name = f"{config} − {baseline}, {metric}"
    yield Claim(name, pair["mean"], "", bar)
    yield Claim(f"{name}, low end of 95 %", pair["low"], "", ">= 0" if bar else "")
    yield Claim(f"{name}, high end of 95 %", pair["high"])


Part = Callable[[argparse.Namespace], Iterator[Claim]]
PARTS: dict[str, Part] = {
    "reranker": measure_reranker,
    "departments": measure_departments,
    "cold-start": measure_cold_start,
}

if __name__ == "__main__":
    run(
        __doc__,
        measure,
        parts={"default": ",".join(PARTS), "help": f"what to measure, of {', '.join(PARTS)} (default: all)"},
        queries={"type": int, "default": 250, "help": "queries to time (default: 250)"},
        finetune={"default": "", "help": "options for manage.py finetune, in one word with quotes"},
    )
