"""An event log of its own for each test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.setup import forget_pipelines, get_store


@pytest.fixture
def log(db, tmp_path, settings) -> Iterator[Path]:
    """The data folder of a shop without an index, whose searches go to the database; nothing waits in its spool."""
    settings.DATA_DIR = tmp_path
    get_store.cache_clear()
    forget_pipelines()
    yield tmp_path
    forget_pipelines()
    get_store.cache_clear()
