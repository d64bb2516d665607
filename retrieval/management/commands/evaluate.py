"""Measure how good the rankings are, with the same pipeline as the site."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from catalog.models import Product
from retrieval.engine.config import CONFIGS, get_config
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.types import EngineError, Query
from retrieval.evaluation.judgements import JudgementsError, JudgementSet, read_judgements
from retrieval.evaluation.metrics import DEEPEST_CUTOFF
from retrieval.evaluation.report import Answer, Evaluation, evaluate_answers, find_notes, to_dict, to_rows, to_tables
from retrieval.setup import get_pipeline

DEEPEST = 1000


class Command(BaseCommand):
    help = (
        "Search every rated query and print how good the rankings are, with 95 % bootstrap intervals over the "
        "queries. Several --config are compared pairwise on the same queries, the later minus the earlier. "
        "Queries without a relevant product do not count. Both files are tab-separated UTF-8 with a header."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queries", type=Path, required=True, metavar="Q.tsv", help="columns: query_id, query")
        parser.add_argument(
            "--qrels", type=Path, required=True, metavar="R.tsv", help="columns: query_id, doc_id (the SKU), relevance"
        )
        parser.add_argument(
            "--relevant-from",
            type=int,
            metavar="GRADE",
            help="lowest grade that counts as relevant (default: 3, or the highest grade where no product has a 3)",
        )
        parser.add_argument(
            "--config",
            action="append",
            dest="configs",
            metavar="NAME",
            help=f"how to search, one of: {', '.join(CONFIGS)}; may be given several times (default: the site's)",
        )
        parser.add_argument(
            "--depth",
            type=int,
            default=DEEPEST_CUTOFF,
            help=f"products to rank per query, {DEEPEST_CUTOFF} to {DEEPEST} (default: {DEEPEST_CUTOFF})",
        )
        parser.add_argument("--per-query", type=Path, metavar="FILE.tsv", help="write every query's own figures here")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, depth: int, per_query: Path | None, **options: Any) -> None:
        if not DEEPEST_CUTOFF <= depth <= DEEPEST:
            raise CommandError(f"--depth {depth}: expected {DEEPEST_CUTOFF} to {DEEPEST}")
        if per_query and not per_query.parent.is_dir():
            raise CommandError(f"--per-query {per_query}: there is no folder {per_query.parent}; make it first")
        try:
            judgements = read_judgements(options["queries"], options["qrels"])
            evaluation = evaluate(judgements, options["configs"] or [], options["relevant_from"], depth)
        except (EngineError, JudgementsError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            left_out = len(judgements.queries) - len(evaluation.judgements.queries)
            facts = {"depth": depth, "queries_left_out": left_out} | to_dict(evaluation)
            self.stdout.write(json.dumps(facts, ensure_ascii=False, indent=2))
        else:
            _print(Console(), evaluation, len(judgements.queries))
        if per_query:
            _write_rows(per_query, evaluation)


def _print(console: Console, evaluation: Evaluation, queries_total: int) -> None:
    counted = evaluation.judgements
    console.print(
        f"{len(counted.queries)} of {queries_total} queries have a product graded {evaluation.relevant_from} or higher "
        f"and count, with {len(counted)} ratings.",
        highlight=False,
    )
    console.print(to_tables(evaluation))
    console.print()
    for note in find_notes(evaluation):
        console.print(f"[yellow]Note:[/yellow] {note}", highlight=False)


def _write_rows(path: Path, evaluation: Evaluation) -> None:
    try:
        path.write_text("".join("\t".join(row) + "\n" for row in to_rows(evaluation)), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--per-query {path}: cannot be written: {error.strerror}") from error


def evaluate(judgements: JudgementSet, names: list[str], relevant_from: int | None, depth: int) -> Evaluation:
    """Return what the configs find and how good it is; no names means the site's own.

    Only queries with a relevant product count. Nothing is recorded as a shopper's search.
    Raises JudgementsError if no query or no product counts, EngineError for an unknown config or a missing index.
    """
    relevant_from = judgements.usual_relevant_from if relevant_from is None else relevant_from
    counted = judgements.with_relevant(relevant_from)
    own = settings.SEARCHSITE["CONFIG"]
    pipelines = {name: _get_complete_pipeline(name) for name in names} or {own: get_pipeline(own)}
    missing = find_missing(counted)
    return evaluate_answers(search_all(pipelines, counted.queries, depth), counted, relevant_from, missing)


def _get_complete_pipeline(name: str) -> Pipeline:
    """Return the pipeline; raises EngineError where it would quietly be a lesser one."""
    pipeline = get_pipeline(get_config(name).name)
    if get_config(name).rerank_depth != 0 and pipeline.reranker is None:
        raise EngineError(f"config {name!r} reranks, but no reranker is set: name a model in SEARCHSITE_RERANKER")
    return pipeline


def find_missing(judgements: JudgementSet) -> tuple[str, ...]:
    """Return the rated SKUs that are not on sale; raises JudgementsError if that is all of them."""
    on_sale = Product.objects.active().values_list("sku", flat=True)
    missing = tuple(sorted(judgements.skus.difference(on_sale.iterator())))
    if len(missing) == len(judgements.skus):
        raise JudgementsError(
            f"none of the {len(missing)} rated SKUs is on sale in this shop, for example {missing[0]!r}: "
            "import the catalogue these ratings were made for, or choose its SEARCHSITE_DATA_DIR"
        )
    return missing


def search_all(
    pipelines: Mapping[str, Pipeline], queries: Mapping[str, str], depth: int
) -> dict[str, dict[str, Answer]]:
    """Return the answers by config and query id; a bar shows the progress where there is a terminal."""
    answers: dict[str, dict[str, Answer]] = {name: {} for name in pipelines}
    with _progress_bar() as progress:
        task = progress.add_task("search", total=len(pipelines) * len(queries))
        for name, pipeline in pipelines.items():
            for query_id, text in queries.items():
                answers[name][query_id] = search(pipeline, text, depth)
                progress.advance(task)
    return answers


def search(pipeline: Pipeline, text: str, depth: int) -> Answer:
    """Return the `depth` best products, without those that left the catalogue since they were indexed."""
    results = pipeline.search(Query(text, page_size=depth))
    product_ids = [hit.product_id for hit in results.hits]
    skus = dict(Product.objects.filter(pk__in=product_ids).values_list("pk", "sku"))
    return Answer(tuple(skus[product_id] for product_id in product_ids if product_id in skus), results.total)


def _progress_bar() -> Progress:
    columns = TextColumn("Searching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
