"""Search from the terminal, with the same pipeline as the site."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from catalog.models import Product
from retrieval.engine.config import CONFIGS
from retrieval.engine.types import EngineError, Explanation, Query, Results
from retrieval.setup import get_pipeline


class Command(BaseCommand):
    help = "Search the catalogue and print the hits, with --explain also where each came from."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("query", help="what a shopper would type")
        parser.add_argument("--config", help=f"how to search, one of: {', '.join(CONFIGS)}")
        parser.add_argument("--limit", type=int, default=10, help="hits to print, 1 to 1000 (default: 10)")
        parser.add_argument("--explain", action="store_true", help="print rank and score of every stage, and timings")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, query: str, config: str | None, limit: int, explain: bool, **options: Any) -> None:
        if not 1 <= limit <= 1000:
            raise CommandError(f"--limit {limit}: expected 1 to 1000")
        try:
            results = get_pipeline(config).search(Query(query, page_size=limit))
        except EngineError as error:
            raise CommandError(str(error)) from error
        products = {
            product.pk: product for product in Product.objects.in_order([hit.product_id for hit in results.hits])
        }
        if options["json"]:
            self.stdout.write(json.dumps(_to_dict(results, products, explain), ensure_ascii=False, indent=2))
        else:
            _print(Console(), results, products, explain)


def _to_dict(results: Results, products: dict[int, Product], explain: bool) -> dict[str, Any]:
    hits = []
    for rank, hit in enumerate(results.hits, 1):
        if product := products.get(hit.product_id):
            found = {"rank": rank, "sku": product.sku, "title": product.title, "score": round(hit.score, 6)}
            hits.append(found | ({"explanation": _explain(hit.explanation)} if explain else {}))
    return {
        "searched_text": results.searched_text,
        "corrected_from": results.corrected_from,
        "suggestion": results.suggestion,
        "total": results.total,
        "config": results.config_name,
        "hits": hits,
        "timings_ms": dict(results.timings_ms),
    }


def _explain(explanation: Explanation) -> dict[str, float | int | None]:
    return {name: getattr(explanation, name) for name in Explanation.__slots__}


def _print(console: Console, results: Results, products: dict[int, Product], explain: bool) -> None:
    if results.corrected_from:
        console.print(f"Showing results for [b]{results.searched_text}[/b], not {results.corrected_from}")
    if results.suggestion:
        console.print(f"Did you mean [b]{results.suggestion}[/b]?")
    table = Table("#", "SKU", "Title", "Score")
    if explain:
        for name in ("lexical", "dense", "fused", "rerank"):
            table.add_column(name, justify="right")
    for rank, hit in enumerate(results.hits, 1):
        if product := products.get(hit.product_id):
            cells = [str(rank), product.sku, product.title[:90], f"{hit.score:.4f}"]
            table.add_row(*cells, *(_stage_cells(hit.explanation) if explain else []))
    console.print(table)
    console.print(f"{results.total} products, {results.timings_ms.get('total', 0):.1f} ms ({results.config_name})")
    if explain:
        console.print(", ".join(f"{stage} {ms:.1f} ms" for stage, ms in results.timings_ms.items()))


def _stage_cells(explanation: Explanation) -> list[str]:
    pairs = [
        (explanation.lexical_rank, explanation.lexical_score),
        (explanation.dense_rank, explanation.dense_score),
        (explanation.fused_rank, explanation.fused_score),
        (None, explanation.rerank_score),
    ]
    return ["" if score is None else f"{'' if rank is None else f'#{rank} '}{score:.3f}" for rank, score in pairs]
