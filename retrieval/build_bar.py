"""What commands show on the terminal while an index is built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from retrieval.embedding import Progress
from retrieval.models import IndexBuild


@contextmanager
def build_bar() -> Iterator[Progress]:
    """Give what follows a build with a bar; silent where there is no terminal or nothing is built."""
    columns = (TextColumn("Indexing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    task = bar.add_task("index", total=None, visible=False)

    def show(build: IndexBuild) -> None:
        bar.update(task, completed=build.products_done, total=build.products_total, visible=True)

    with bar:
        yield show
