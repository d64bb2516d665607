"""Build the search index anew."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from retrieval import indexing
from retrieval.build_bar import build_bar
from retrieval.embedding import Progress
from retrieval.engine.types import EngineError
from retrieval.models import IndexBuild


class Command(BaseCommand):
    help = (
        "Build the search index of the whole catalogue beside the live one, then switch to it. "
        "Searches go on meanwhile; products whose text has not changed are not embedded again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--pending", action="store_true", help="only bring waiting changes into the live index")
        parser.add_argument(
            "--model",
            metavar="NAME",
            help="build the index of this model beside the live one: default, a folder, a name",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, pending: bool, model: str | None, **options: Any) -> None:
        if pending and model:
            raise CommandError("--pending and --model: expected one of them; waiting changes go into every index")
        try:
            with build_bar() as show:
                build = _build(show, pending, model)
        except EngineError as error:
            raise CommandError(str(error)) from error
        self._print(build, options["json"])

    def _print(self, build: IndexBuild | None, as_json: bool) -> None:
        if build is None or build.finished_at is None:
            raise CommandError("there is no live index and nothing waits to be indexed; run: manage.py reindex")
        seconds = round((build.finished_at - build.started_at).total_seconds(), 2)
        facts = {
            "generation": build.generation,
            "model_version": build.model_version,
            "products": build.products_total,
            "embedded": build.embedded,
            "seconds": seconds,
        }
        text = f"{build.products_total} products indexed, {build.embedded} embedded, in {seconds} s: {build.generation}"
        self.stdout.write(json.dumps(facts) if as_json else text)


def _build(show: Progress, pending: bool, model: str | None) -> IndexBuild | None:
    """Build what was asked for and return its row; of waiting changes, the live index's."""
    if model:
        return indexing.build_shadow(model, show)
    if not pending:
        return indexing.rebuild(show)
    indexing.index_pending(show)
    return IndexBuild.objects.filter(state=IndexBuild.State.LIVE).first()
