"""Bring graded queries in, for models to learn from and be measured by."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from retrieval.evaluation.judgements import JudgementsError
from retrieval.judgement_files import HOW_GRADED, import_ratings, read_ratings


class Command(BaseCommand):
    help = (
        "Import ratings into a judgement set: one file with the columns query, sku (or doc_id, product) and grade (or "
        "relevance), as TSV, CSV or JSON Lines; or queries.tsv with qrels.tsv; or queries with TREC qrels. Imported "
        f"again, grades are updated. A bad line refuses all of it. {HOW_GRADED}"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the judgement set; made if it is not there")
        parser.add_argument("--file", type=Path, metavar="FILE", help="one file of ratings")
        parser.add_argument(
            "--queries", type=Path, metavar="Q.tsv", help="columns: query_id, query; or an id and the query, no header"
        )
        parser.add_argument(
            "--qrels", type=Path, metavar="R.tsv", help="columns: query_id, doc_id (the SKU), relevance; or TREC's"
        )
        parser.add_argument("--replace", action="store_true", help="remove grades that the files do not have")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        try:
            ratings = read_ratings(file=options["file"], queries=options["queries"], qrels=options["qrels"])
            done = import_ratings(name, ratings, replace=options["replace"])
        except JudgementsError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(asdict(done), ensure_ascii=False) if options["json"] else str(done))
