"""What all tests share."""

import pytest

from retrieval import past_queries
from retrieval.setup import MODELS_DIR, forget_pipelines, get_store


@pytest.fixture(autouse=True)
def _no_query_counts_left():
    """Searches of a test are not written after it, by a thread or at exit."""
    past_queries.FLUSH_INTERVAL_S = 3600.0
    yield
    past_queries._counter.__init__()  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _no_reranker(settings):
    """Searches are the hybrid's own, whatever comes with the project, unless a test names a reranker."""
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "", "RERANKER_PRECISION": "float"}


@pytest.fixture(scope="session")
def default_model():
    """The folder of the default encoder, exported once for all tests."""
    from retrieval.learning.export import export_encoder

    return export_encoder("default", MODELS_DIR)


@pytest.fixture
def shop(db, default_model, tmp_path, settings):
    """An empty shop with a data folder of its own and the real default model."""
    settings.DATA_DIR = tmp_path
    get_store.cache_clear()
    forget_pipelines()
    yield tmp_path
    forget_pipelines()
    get_store.cache_clear()
