"""Does learning pay? The models that come with the project, and towers tuned without ratings, on ratings unseen."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.departments import KINDS, make_bases, open_departments
from bench.quality import CONDENSED, JUDGED, NDCG, Rankings, evaluate, evaluate_queries
from bench.report import Claim, make_parts_option, run, with_ends
from bench.search import WARM_UP, time_requests
from bench.shops import FOLDER, Shop, open_icecat, serve, wait_for
from retrieval.evaluation.compare import Estimate, estimate_means

RECALL = "R(rel=3)@100"
PLAIN = "as a new shop is"
Bars = Mapping[tuple[str, str], str]  # by config and metric
SHOWN = (NDCG, CONDENSED, JUDGED, RECALL)
LEAST_JUDGED = 0.95
READING = "--rerank-depth 40 --rerank-blend 0.65"
BASE_TRAININGS = {
    "finetune": "--base default --rounds 2 --steps 25 --batch-size 256 --max-tokens 48",
    "train_reranker": f"--base default --steps 800 {READING}",
}
# Of the towers alone: two products of a query make no list for a reranker to order.
DEPARTMENT_TRAINING = (
    "--source judgements:staff --rounds 1 --steps 20 --batch-size 128 --max-tokens 48 --distillation 0"
)


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    for name in arguments.parts:
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
        yield from show_gain(found, "hybrid-rerank", "hybrid", metric, bar, told=f"{shop.name}: ")
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
    """Yield what two towers tuned without clicks or ratings find, beside the ones they began as."""
    # The default reranker teaches; what is measured searches without it.
    shop = replace(copy_shop(open_icecat(), "icecat-cold-start"), settings={"SEARCHSITE_RERANKER": "default-reranker"})
    shop.manage("reindex", "--json")  # exports it
    before = evaluate_queries(shop, "dense", "hybrid")
    started = time.monotonic()
    made = json.loads(shop.manage("finetune", "--json", *arguments.finetune.split()))
    yield Claim("cold start: training", (time.monotonic() - started) / 60, "min", "<= 45")
    shop.manage("models", "promote", made["version"], "--force")
    yield from compare_rankings("cold start", before, evaluate_queries(shop, "dense", "hybrid"), COLD_START_BARS)


def measure_towers(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what the two towers that come with the project find, beside those they began as."""
    shop = copy_shop(open_icecat(), "icecat-default-towers")
    before = evaluate_queries(shop, "dense", "hybrid")
    shop.manage("models", "promote", "default-towers", "--force")
    yield from compare_rankings("default towers", before, evaluate_queries(shop, "dense", "hybrid"), {})


def compare_rankings(name: str, before: Rankings, after: Rankings, bars: Bars) -> Iterator[Claim]:
    """Yield the means of what was tuned, and the paired differences with the ends of their intervals."""
    for config, metrics in after.items():
        for metric in (NDCG, CONDENSED, RECALL):
            yield Claim(f"{name}: {config}, {metric}", float(np.mean(metrics[metric])))
    for config, metrics in after.items():
        for metric in (NDCG, CONDENSED, RECALL):
            gain = f"{name}: {config} tuned − as it was, {metric}"
            yield from show_difference(gain, metrics[metric], before[config][metric], bars.get((config, metric), ""))


def show_difference(name: str, after: Sequence[float], before: Sequence[float], bar: str = "") -> Iterator[Claim]:
    """Yield the mean of the paired differences, and the ends of its interval."""
    (interval,) = estimate_means((np.array(after) - before)[:, None])
    yield from with_ends(name, interval, bar)


def measure_departments(arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what 800 ratings do for other queries of the same departments.

    It begins with models that other departments have taught, as a new shop begins with those that come with the
    project. The ratings teach the towers; the reranker stays as it is.
    """
    archives = make_bases(BASE_TRAININGS)
    shop, ratings = open_departments()
    yield Claim("departments: ratings", len(ratings.read_text(encoding="utf-8").splitlines()) - 1)
    ndcgs = {PLAIN: evaluate_queries(shop, "hybrid")["hybrid"][NDCG]}
    for archive in archives:
        shop.manage("models", "import", str(archive))
    for name in KINDS.values():
        shop.manage("models", "promote", name, "--force")
    ndcgs |= measure_both(shop, "without any rating")
    started = time.monotonic()
    shop.manage("import_judgements", "staff", "--file", str(ratings), "--json")
    made = json.loads(shop.manage("finetune", "--base", KINDS["finetune"], "--json", *DEPARTMENT_TRAINING.split()))
    shop.manage("models", "promote", made["version"], "--force")
    yield Claim("departments: training and judging", (time.monotonic() - started) / 60, "min", "<= 10")
    ndcgs |= measure_both(shop, "with 800 ratings")
    yield Claim("departments: queries", len(ndcgs[PLAIN]))
    for name, found in ndcgs.items():
        yield Claim(f"departments: {name}, {NDCG}", float(np.mean(found)))
        if name != PLAIN:
            bar = ">= 0.05" if name == "with 800 ratings: hybrid-rerank" else ""
            yield from show_difference(f"{name} − {PLAIN}, {NDCG}", found, ndcgs[PLAIN], bar)
    for config in ("hybrid", "hybrid-rerank"):
        gained = ndcgs[f"with 800 ratings: {config}"], ndcgs[f"without any rating: {config}"]
        yield from show_difference(f"ratings: {config} with 800 − without any, {NDCG}", *gained)


def measure_both(shop: Shop, told: str) -> dict[str, list[float]]:
    """Return nDCG@10 of each query with the models that serve, with and without the reranker."""
    found = evaluate_queries(shop, "hybrid", "hybrid-rerank")
    return {f"{told}: {config}": metrics[NDCG] for config, metrics in found.items()}


# Within 45 minutes on two cores without bf16.
COLD_START_TRAINING = "--catalogue-queries 1500 --rounds 1 --steps 16 --batch-size 256 --max-tokens 48"
COLD_START_BARS: Bars = {("dense", CONDENSED): ">= 0.02", ("dense", RECALL): ">= 0", ("hybrid", CONDENSED): ">= 0"}


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


def show_gain(
    found: dict[str, Any], config: str, baseline: str, metric: str, bar: str, *, told: str = ""
) -> Iterator[Claim]:
    """Yield the paired difference and the ends of its interval; `told` comes before its name."""
    pair = next(
        each for each in found["pairs"]
        if (each["config"], each["baseline"], each["metric"]) == (config, baseline, metric)
    )  # fmt: skip
    estimate = Estimate(pair["mean"], pair["low"], pair["high"])
    yield from with_ends(f"{told}{config} − {baseline}, {metric}", estimate, bar, ">= 0" if bar else "")


Part = Callable[[argparse.Namespace], Iterator[Claim]]
PARTS: dict[str, Part] = {
    "reranker": measure_reranker,
    "towers": measure_towers,
    "departments": measure_departments,
    "cold-start": measure_cold_start,
}

if __name__ == "__main__":
    run(
        __doc__,
        measure,
        parts=make_parts_option(PARTS),
        queries={"type": int, "default": 250, "help": "queries to time (default: 250)"},
        finetune={"default": COLD_START_TRAINING, "help": "options for manage.py finetune, in one word with quotes"},
    )
