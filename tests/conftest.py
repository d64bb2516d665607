"""What all tests share."""

import pytest
from django.conf import settings
from django.test import override_settings

from experiments import buffer, serving
from retrieval import past_queries
from retrieval.setup import MODELS_DIR, forget_pipelines, get_store


@pytest.fixture(autouse=True)
def _no_query_counts_left():
    """Searches of a test are not written after it, by a thread or at exit."""
    past_queries.FLUSH_INTERVAL_S = 3600.0
    yield
    past_queries._counter.__init__()  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _no_events_left():
    """What visitors of a test did is not written after it."""
    buffer.FLUSH_INTERVAL_S = 3600.0
    yield
    buffer.buffer.__init__()  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _no_experiments_left():
    """Each test's searches read for themselves which experiments run."""
    serving._running.__init__()  # type: ignore[misc]


@pytest.fixture(autouse=True)
def _nothing_quantised():
    """A reranker that a test names is exported as it is, which takes far less time than in int8."""
    with override_settings(SEARCHSITE=settings.SEARCHSITE | {"RERANKER_PRECISION": "float"}):
        yield


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
