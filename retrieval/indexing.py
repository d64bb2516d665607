"""From changed products to a live generation: the story of the index, over database, models and engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from django.utils import timezone

from retrieval.building import build_anew, build_from, make_vectors
from retrieval.changes import Changes
from retrieval.embedding import Progress
from retrieval.engine.exported import EncoderError, is_complete
from retrieval.engine.files import hold_lock
from retrieval.engine.index import Manifest
from retrieval.engine.types import EngineError, IndexUnavailable
from retrieval.generations import get_store, prune_generations, recipe_version
from retrieval.live import (
    CROSS_ENCODER,
    MODELS_DIR,
    NOTHING,
    TWO_TOWER,
    find_live,
    find_promotion,
    named_by_settings,
)
from retrieval.models import IndexBuild, PendingChange
from retrieval.promotion import mark_served, withdraw_replaced

logger = logging.getLogger(__name__)
# Above this share of the catalogue, building anew is quicker than a copy with changes.
REBUILD_SHARE = 0.2
SHADOW_LOCK = "SHADOW"


def rebuild(on_progress: Progress = lambda build: None, *, version: str = "") -> IndexBuild:
    """Build a generation of the whole catalogue, for the live model or for this version of one, and let it serve.

    Searches go on meanwhile.
    """
    if not version:
        export_models()
        version = find_live(TWO_TOWER).version
    with get_store().write_lock():
        changes = Changes.read()
        build = _start(version)
        _run(build, partial(build_anew, build, changes, on_progress))
        if get_store().served() == [version]:
            changes.forget()
        return build


def build_shadow(model_name: str, on_progress: Progress = lambda build: None) -> IndexBuild:
    """Build a generation of the whole catalogue for a model or version of this name, to serve beside the live one.

    Vectors are made first: meanwhile changes go on coming in, and a build that was killed goes on where it was.
    Of several at once, one runs. Raises EngineError when the model cannot be had.
    """
    from retrieval.learning.export import export_encoder
    from retrieval.registry import resolve

    version = export_encoder(resolve(model_name), MODELS_DIR).name
    with hold_lock(get_store().root / SHADOW_LOCK, is_waiting=True):
        IndexBuild.objects.mark_interrupted(IndexBuild.State.PREPARING)
        build = _start(version, IndexBuild.State.PREPARING)
        with _recorded(build):
            make_vectors(build, on_progress)
        with get_store().write_lock():
            changes = Changes.read()
            build.state = IndexBuild.State.BUILDING
            return _run(build, partial(build_anew, build, changes, on_progress))


def index_pending(on_progress: Progress = lambda build: None) -> int:
    """Bring all waiting changes into every index that serves and return how many products they were."""
    if not PendingChange.objects.exists():
        return 0
    export_models()
    live = find_live(TWO_TOWER).version
    with get_store().write_lock():
        changes = Changes.read()
        if changes.product_ids:
            _bring_in(changes, live, on_progress)
            for version in get_store().served():
                if version != live:
                    _bring_in_beside(changes, version, on_progress)
        changes.forget()
    return len(changes.product_ids)


def export_models() -> None:
    """Make sure that the live models exist in the form the engine runs."""
    from retrieval.learning.export import export_encoder
    from retrieval.readers import export_for_searches

    for kind, export in ((TWO_TOWER, export_encoder), (CROSS_ENCODER, export_for_searches)):
        promotion = find_promotion(kind)
        live = promotion.models[0] if promotion else None
        if live and live.name != named_by_settings(kind):
            if live != NOTHING and not is_complete(MODELS_DIR / live.version):
                raise EngineError(
                    f"the promoted {kind} model {live.name!r} ({live.version}) is no longer in {MODELS_DIR}: "
                    "promote it anew, or roll back"
                )
        elif name := named_by_settings(kind):
            export(name, MODELS_DIR)


def _bring_in(changes: Changes, version: str, on_progress: Progress) -> None:
    """Bring the changes into the generation that serves this version, unless that was done before a kill."""
    found = _find_usable(version)
    if found and found[1].changes == changes.stamp:
        return
    build = _start(version)
    if found is None or len(changes.product_ids) > REBUILD_SHARE * found[1].count:
        _run(build, partial(build_anew, build, changes, on_progress))
    else:
        _run(build, partial(build_from, build, found, changes))


def _bring_in_beside(changes: Changes, version: str, on_progress: Progress) -> None:
    """Bring the changes into the index of a model beside the live one; if that model is gone, it serves no more."""
    try:
        _bring_in(changes, version, on_progress)
    except EncoderError as error:
        logger.error("model version %s serves no more beside the live one: %s", version, error)
        get_store().withdraw(version)
        mark_served()


def _find_usable(version: str) -> tuple[Path, Manifest] | None:
    """Return the generation that serves this version if it is one this site can go on with."""
    folder = get_store().current(version)
    if folder is None:
        return None
    try:
        manifest = Manifest.read(folder)
        manifest.check(model_version=version, recipe_version=recipe_version())
    except IndexUnavailable as error:
        logger.warning("building anew: %s", error)
        return None
    return folder, manifest


def _start(version: str, state: IndexBuild.State = IndexBuild.State.BUILDING) -> IndexBuild:
    return IndexBuild.objects.create(model_version=version, recipe_version=recipe_version(), state=state)


def _run(build: IndexBuild, build_generation: Callable[[], Path]) -> IndexBuild:
    """Build a generation, publish it, and keep the record of both. Call it under the store's write lock."""
    IndexBuild.objects.exclude(pk=build.pk).mark_interrupted(IndexBuild.State.BUILDING)
    build.save()
    store, version = get_store(), build.model_version
    was_served = version in store.served()
    with _recorded(build):
        folder = build_generation()
        if not was_served or version in store.served():  # else it was retired meanwhile
            store.publish(folder)
    build.generation, build.state, build.finished_at = folder.name, IndexBuild.State.RETIRED, timezone.now()
    build.save()
    if version == find_live(TWO_TOWER).version:
        withdraw_replaced()
    mark_served()
    build.refresh_from_db()
    prune_generations()
    return build


@contextmanager
def _recorded(build: IndexBuild) -> Iterator[None]:
    """Keep the reason when a build fails."""
    try:
        yield
    except BaseException as error:
        build.state, build.error = IndexBuild.State.FAILED, str(error)[:2000]
        build.finished_at = timezone.now()
        build.save()
        raise
