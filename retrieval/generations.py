"""Where generations are kept, and what they are made with, by the settings: in files, or on a Qdrant server."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from django.conf import settings

from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.generation import Generation
from retrieval.engine.index import GenerationStore, HnswSettings, Manifest, ProductIndex, is_finished
from retrieval.engine.lexicon import Lexicon
from retrieval.engine.moments import Moments
from retrieval.engine.text import RECIPE_VERSION, Analyzer
from retrieval.engine.types import IndexUnavailable

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


@cache
def get_store() -> GenerationStore:
    return GenerationStore(Path(settings.DATA_DIR) / "generations")


@cache
def get_analyzer() -> Analyzer:
    return Analyzer(settings.SEARCHSITE["LANGUAGE"])


def get_hnsw_settings() -> HnswSettings:
    shop = settings.SEARCHSITE
    return HnswSettings(shop["HNSW_M"], shop["HNSW_EF_CONSTRUCT"], shop["QUANTIZATION"], shop["VECTOR_DIM"])


def recipe_version() -> str:
    """Return what changes when texts are cut into words or vectors in another way."""
    return f"{RECIPE_VERSION}-{settings.SEARCHSITE['LANGUAGE']}"


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
        return EdgeIndex.open(folder, manifest.dim, manifest.short_dim)
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


def read_generation(version: str, folder: Path) -> Generation:
    """Return the open generation in `folder`; raises IndexUnavailable if it is damaged or not of this model version."""
    manifest = Manifest.read(folder)
    manifest.check(model_version=version, recipe_version=recipe_version())
    try:
        lexicon, columns, moments = Lexicon.load(folder), Columns.load(folder), Moments.load(folder)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise IndexUnavailable(
            f"index generation {folder.name} is damaged ({error}); run: manage.py reindex"
        ) from error
    bm25 = Bm25(get_analyzer(), lexicon.average_lengths)
    return Generation(folder.name, open_index(folder, manifest), columns, lexicon, moments, bm25)
