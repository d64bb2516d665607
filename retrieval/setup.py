"""The engine built from the settings: the one place where both meet. Once per process, lazily, after fork."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event, Lock
from time import monotonic
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import connection

from retrieval.documents import DatabaseSource
from retrieval.engine.config import NO_RERANKER, SearchConfig, get_config
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.exported import EncoderError
from retrieval.engine.generation import Generation
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.recent import Recent
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.engine.types import EngineError, IndexUnavailable
from retrieval.generations import get_analyzer, get_store, read_generation, recipe_version
from retrieval.live import CROSS_ENCODER, MODELS_DIR, NOTHING, TWO_TOWER, LiveModel, find_live, find_version

__all__ = [
    "MODELS_DIR",
    "find_generation",
    "forget_pipelines",
    "get_analyzer",
    "get_encoder",
    "get_pipeline",
    "get_reranker",
    "get_store",
    "recipe_version",
    "watch_generations",
]

logger = logging.getLogger(__name__)
_lock = Lock()
_is_watched = Event()
_pipelines: dict[SearchConfig, Opened] = {}
# Closed when the last pipeline that uses them is.
_generations: WeakValueDictionary[Path, Generation] = WeakValueDictionary()
UNUSED_S = 600
BUILD_SHADOW = "build one: manage.py reindex --model NAME"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search runs on: its config with nothing left open, and the generation of its model."""

    config: SearchConfig
    folder: Path


@dataclass(slots=True)
class Opened:
    """A pipeline and what it was opened for."""

    plan: Plan
    pipeline: Pipeline
    used_at: float


def get_pipeline(config: SearchConfig | str | None = None) -> Pipeline:
    """Return the pipeline of this config, or of that name, over the models and the generation that serve now.

    It is opened anew when others do. Where `watch_generations` runs, it opens the new one, and the old one answers
    until it has. Raises IndexUnavailable when no generation can be opened, EngineError for an unknown config or model.
    """
    asked = config if isinstance(config, SearchConfig) else get_config(config or settings.SEARCHSITE["CONFIG"])
    opened = _pipelines.get(asked)
    if opened is not None:
        opened.used_at = monotonic()
        if _is_watched.is_set():
            return opened.pipeline
    plan = make_plan(asked)
    if opened is not None and opened.plan == plan:
        return opened.pipeline
    try:
        return _open_pipeline(asked, plan)
    except EngineError:
        if make_plan(asked) == plan:
            raise
        return get_pipeline(asked)  # another went live meanwhile, and this one may have been removed


def make_plan(asked: SearchConfig) -> Plan:
    """Return what a search with this config runs on now; raises EngineError when that is not there."""
    model = asked.model or find_live(TWO_TOWER).version
    folder = get_store().current(model)
    if folder is None and asked.model:
        raise IndexUnavailable(f"config {asked.name!r}: no index serves model {model!r}; {BUILD_SHADOW}")
    if folder is None:
        raise IndexUnavailable("no index has been built yet; run: manage.py reindex")
    reranker = _find_reranker(asked)
    config = asked.settle(
        model=model,
        reranker=reranker.version,
        rerank_depth=reranker.rerank_depth,
        rerank_blend=reranker.rerank_blend,
    )
    return Plan(config, folder)


def _find_reranker(asked: SearchConfig) -> LiveModel:
    if asked.rerank_depth == 0 or asked.reranker == NO_RERANKER:
        return NOTHING
    if asked.reranker:
        return find_version(CROSS_ENCODER, asked.reranker)
    try:
        return find_live(CROSS_ENCODER)
    except EncoderError as error:
        _tell_once(f"searching without a reranker: {error}")
        return NOTHING


@lru_cache(maxsize=16)
def _tell_once(message: str) -> None:
    logger.error("%s", message)


def watch_generations(stop: Event, interval_s: float = 0.5) -> None:
    """Open what newly went live, generations and models, beside the searches, until `stop` is set.

    No shopper waits for it. Pipelines that nobody used for a while are closed.
    """
    refused: dict[SearchConfig, Plan | None] = {}
    _is_watched.set()
    try:
        while not stop.wait(interval_s):
            for asked, opened in list(_pipelines.items()):
                if _is_unused(asked, opened):
                    _pipelines.pop(asked, None)
                else:
                    _renew(asked, opened, refused)
    finally:
        _is_watched.clear()
        connection.close()


def _is_unused(asked: SearchConfig, opened: Opened) -> bool:
    return monotonic() - opened.used_at > UNUSED_S and asked.name != settings.SEARCHSITE["CONFIG"]


def _renew(asked: SearchConfig, opened: Opened, refused: dict[SearchConfig, Plan | None]) -> None:
    """Open the pipeline anew if something else serves now. What cannot be opened is told once, and not tried again."""
    plan = None
    try:
        plan = make_plan(asked)
        if plan not in (opened.plan, refused.get(asked)):
            _open_pipeline(asked, plan)
    except EngineError as error:
        if asked not in refused or refused[asked] != plan:
            logger.error("the index before goes on answering: %s", error)
        refused[asked] = plan
        if plan is None and asked.model:  # retired: who still asks for it is to be told
            _pipelines.pop(asked, None)


def _open_pipeline(asked: SearchConfig, plan: Plan) -> Pipeline:
    with _lock:
        opened = _pipelines.get(asked)
        if opened is None or opened.plan != plan:
            opened = _pipelines[asked] = Opened(plan, _build_pipeline(asked, plan), monotonic())
    return opened.pipeline


def forget_pipelines() -> None:
    """Close what this process holds open; the next search opens it again."""
    with _lock:
        _pipelines.clear()
        _generations.clear()


def _build_pipeline(asked: SearchConfig, plan: Plan) -> Pipeline:
    config = plan.config
    return Pipeline(
        generation=_open_generation(config.model, plan.folder),
        encoder=get_encoder(config.model) if config.uses_dense else None,
        source=DatabaseSource(),
        config=config,
        reranker=_load_asked_reranker(asked, config) if config.rerank_depth else None,
        recent=Recent(settings.SEARCHSITE["RECENT_SEARCHES"]),
    )


def _load_asked_reranker(asked: SearchConfig, config: SearchConfig) -> CrossEncoderReranker | None:
    try:
        return get_reranker(config.reranker)
    except EncoderError as error:
        if asked.reranker:
            raise
        logger.error("searching without a reranker: %s", error)
        return None


def _open_generation(version: str, folder: Path) -> Generation:
    """Return the generation, the one that another pipeline has open where there is one."""
    generation = _generations.get(folder)
    if generation is None:
        generation = _generations[folder] = read_generation(version, folder)
    return generation


def find_generation() -> Path | None:
    """Return the folder of the live model's generation, None when there is none."""
    try:
        return get_store().current(find_live(TWO_TOWER).version)
    except EncoderError:
        return None


def get_encoder(version: str = "") -> TwoTowerEncoder:
    """Return the encoder of this model version, of the live one by default; raises EngineError if it is not there."""
    return _load_encoder(MODELS_DIR / (version or find_live(TWO_TOWER).version))


@lru_cache(maxsize=3)  # the live model, the one before it, one beside it; more of them while a pipeline has them
def _load_encoder(folder: Path) -> TwoTowerEncoder:
    return TwoTowerEncoder(folder, threads=settings.SEARCHSITE["ENCODER_THREADS"])


def get_reranker(version: str = "") -> CrossEncoderReranker | None:
    """Return the cross-encoder of this version, of the live one by default; None where that is none."""
    version = version or find_live(CROSS_ENCODER).version
    return None if version == NO_RERANKER else _load_reranker(MODELS_DIR / version)


@lru_cache(maxsize=3)
def _load_reranker(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(folder, threads=settings.SEARCHSITE["ENCODER_THREADS"])
