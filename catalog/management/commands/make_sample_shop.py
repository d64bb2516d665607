"""Write a sample shop: its catalogue, queries, and which product answers which query how well."""

from __future__ import annotations

import csv
import gzip
import json
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog.sample.queries import generate_queries
from catalog.sample.shop import generate_products


class Command(BaseCommand):
    help = (
        "Write products.jsonl.gz, queries.tsv and qrels.tsv of a generated shop to a folder. The same seed makes the "
        "same shop. Grades: 3 exactly what is asked for, 2 a good substitute, 1 related, 0 (left out) wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="where to write; made if it is not there")
        parser.add_argument("--products", type=int, default=5000, metavar="N", help="how many products (default: 5000)")
        parser.add_argument(
            "--queries", type=int, default=600, metavar="N", help="how many queries at most (default: 600)"
        )
        parser.add_argument(
            "--seed", type=int, default=7, metavar="S", help="another seed makes another shop (default: 7)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, folder: Path, products: int, queries: int, seed: int, **options: Any) -> None:
        if not 1 <= products <= 1_000_000:
            raise CommandError(f"--products {products}: expected 1 to 1000000")
        if not 0 <= queries <= 100_000:
            raise CommandError(f"--queries {queries}: expected 0 to 100000")
        try:
            made = write_shop(folder, products, queries, seed)
        except OSError as error:
            raise CommandError(f"{folder} cannot be written to: {error.strerror}; name another folder") from error
        facts = {"folder": str(folder), "products": products, "queries": made, "seed": seed}
        text = f"{products} products and {made} queries written to {folder}"
        self.stdout.write(json.dumps(facts) if options["json"] else text)


def write_shop(folder: Path, products: int, queries: int, seed: int) -> int:
    """Write the three files and return how many queries there are; raises OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_products(folder / "products.jsonl.gz", products, seed)
    made = generate_queries(products, seed, queries)
    write_table(folder / "queries.tsv", ("query_id", "query"), ((query.query_id, query.text) for query in made))
    grades = ((query.query_id, sku, grade) for query in made for sku, grade in query.grades.items())
    write_table(folder / "qrels.tsv", ("query_id", "doc_id", "relevance"), grades)
    return len(made)


def write_products(path: Path, count: int, seed: int) -> None:
    """Write a catalogue file of so many sample products, the same to the byte for the same seed."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as file:
        for row in generate_products(count, seed):
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writerow(header)
        writer.writerows(rows)
