"""The engine built from the settings: the one place where both meet. Once per process, lazily, after fork."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from django.conf import settings
from django.db import connection

from retrieval.documents import DatabaseSource
from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.exported import ModelCard, find_exported
from retrieval.engine.generation import Generation
from retrieval.engine.index import GenerationStore, HnswSettings, Manifest, ProductIndex, is_finished
from retrieval.engine.lexicon import Lexicon
from retrieval.engine.moments import Moments
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.engine.text import RECIPE_VERSION, Analyzer
from retrieval.engine.types import EngineError, IndexUnavailable

MODELS_DIR = Path(settings.DATA_DIR) / "models"
if TYPE_CHECKING:
    from qdrant_client import QdrantClient

logger = logging.getLogger(__name__)
_lock = Lock()
_is_watched = Event()
_pipelines: dict[str, Pipeline] = {}


def get_pipeline(config_name: str | None = None) -> Pipeline:
    """Return the pipeline over the live generation, opened anew when another became live.

    Where `watch_generations` runs, it opens the new one, and the old one answers until it has.
    Raises IndexUnavailable when no generation can be opened, EngineError for an unknown config.
    """
    name = config_name or settings.SEARCHSITE["CONFIG"]
    live = get_store().current()
    if live is None:
        raise IndexUnavailable("no index has been built yet; run: manage.py reindex")
    pipeline = _pipelines.get(name)
    if pipeline is not None and (pipeline.generation.name == live.name or _is_watched.is_set()):
        return pipeline
    try:
        return _open_pipeline(name, live)
    except EngineError:
        if get_store().current() == live:
            raise
        return get_pipeline(config_name)  # another went live meanwhile, and this one may have been removed


def watch_generations(stop: Event, interval_s: float = 0.5) -> None:
    """Open each new live generation beside the searches, until `stop` is set: no shopper waits for it."""
    refused = None
    _is_watched.set()
    try:
        while not stop.wait(interval_s):
            live = get_store().current()
            try:
                for name, pipeline in list(_pipelines.items()):
                    if live and live != refused and pipeline.generation.name != live.name:
                        _open_pipeline(name, live)
            except EngineError as error:
                refused = live
                logger.error("the index before goes on answering: %s", error)
    finally:
        _is_watched.clear()
        connection.close()


def _open_pipeline(name: str, live: Path) -> Pipeline:
    with _lock:
        pipeline = _pipelines.get(name)
        if pipeline is None or pipeline.generation.name != live.name:
            pipeline = _pipelines[name] = _build_pipeline(get_config(name), live)
    return pipeline


def forget_pipelines() -> None:
    """Close what this process holds open; the next search opens it again."""
    with _lock:
        _pipelines.clear()
        _open_generation.cache_clear()


def _build_pipeline(config: SearchConfig, folder: Path) -> Pipeline:
    return Pipeline(
        generation=_open_generation(folder),
        encoder=get_encoder() if config.uses_dense else None,
        source=DatabaseSource(),
        config=config,
        reranker=get_reranker() if config.rerank_depth else None,
    )


@cache
def get_store() -> GenerationStore:
    return GenerationStore(Path(settings.DATA_DIR) / "generations")


@cache
def get_analyzer() -> Analyzer:
    return Analyzer(settings.SEARCHSITE["LANGUAGE"])


def get_hnsw_settings() -> HnswSettings:
    shop = settings.SEARCHSITE
    return HnswSettings(shop["HNSW_M"], shop["HNSW_EF_CONSTRUCT"], shop["QUANTIZATION"])


def recipe_version() -> str:
    """Return what changes when texts are cut into words or vectors in another way."""
    return f"{RECIPE_VERSION}-{settings.SEARCHSITE['LANGUAGE']}"


def get_encoder() -> TwoTowerEncoder:
    """Return the encoder of this site's model; raises EngineError when it was not exported yet."""
    return _load_encoder(find_exported("two-tower", settings.SEARCHSITE["MODEL"], MODELS_DIR))


@cache
def _load_encoder(folder: Path) -> TwoTowerEncoder:
    return TwoTowerEncoder(folder, threads=settings.SEARCHSITE["ENCODER_THREADS"])


def get_reranker() -> CrossEncoderReranker | None:
    """Return the cross-encoder, None when the settings name none."""
    name = settings.SEARCHSITE["RERANKER"]
    return _load_reranker(find_exported("cross-encoder", name, MODELS_DIR)) if name else None


@cache
def _load_reranker(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(folder, threads=settings.SEARCHSITE["ENCODER_THREADS"])


@cache
def get_client() -> QdrantClient:
    """Return the client of the Qdrant server named in the settings."""
    from retrieval.engine.server import connect  # 50 MB and half a second that only this profile pays for

    return connect(settings.QDRANT_URL, settings.QDRANT_API_KEY)


def create_index(folder: Path, manifest: Manifest) -> tuple[ProductIndex, Manifest]:
    """Return an empty index for a new generation, in its folder or on the server, and the manifest to keep."""
    if not settings.QDRANT_URL:
        return EdgeIndex.create(folder, manifest.dim, manifest.hnsw), manifest
    from retrieval.engine.server import ServerIndex

    manifest = replace(manifest, collection=f"{settings.QDRANT_PREFIX}-{manifest.name}")
    return ServerIndex.create(get_client(), manifest), manifest


def open_index(folder: Path, manifest: Manifest) -> ProductIndex:
    """Return a generation's index; raises IndexUnavailable if it is not where the settings say it should be."""
    if not settings.QDRANT_URL:
        return EdgeIndex.open(folder, manifest.dim)
    from retrieval.engine.server import ServerIndex

    return ServerIndex.open(get_client(), manifest)


def prune_generations() -> None:
    """Remove generations no longer needed. Call it under the store's write lock."""
    store = get_store()
    store.prune()
    if settings.QDRANT_URL:
        from retrieval.engine.server import drop_collections

        kept = {Manifest.read(folder).collection for folder in store.folders() if is_finished(folder)}
        drop_collections(get_client(), settings.QDRANT_PREFIX, kept)


@lru_cache(maxsize=1)
def _open_generation(folder: Path) -> Generation:
    card = ModelCard.read(find_exported("two-tower", settings.SEARCHSITE["MODEL"], MODELS_DIR))
    manifest = Manifest.read(folder)
    manifest.check(model_version=card.version, recipe_version=recipe_version())
    try:
        lexicon, columns, moments = Lexicon.load(folder), Columns.load(folder), Moments.load(folder)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise IndexUnavailable(
            f"index generation {folder.name} is damaged ({error}); run: manage.py reindex"
        ) from error
    bm25 = Bm25(get_analyzer(), lexicon.average_lengths)
    return Generation(folder.name, open_index(folder, manifest), columns, lexicon, moments, bm25)
