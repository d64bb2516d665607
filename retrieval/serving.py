"""From a model version to one that serves: judged, prepared, an index built for its vectors, promoted."""

from __future__ import annotations

from retrieval import registry
from retrieval.embedding import Progress
from retrieval.engine.types import EngineError
from retrieval.generations import get_store
from retrieval.live import TWO_TOWER, LiveModel
from retrieval.models import ModelVersion


def check_verdict(version: ModelVersion) -> None:
    """Raise EngineError unless the gate let the version pass, or it comes with the project."""
    if version.origin == ModelVersion.Origin.BUILT_IN or version.verdict.get("is_passed"):
        return
    reason = version.verdict.get("reason") or "it was never judged on this shop"
    raise EngineError(f"{version.name} is not shown to be better ({reason}); to let it serve anyway, force it")


def is_ready(version: ModelVersion) -> bool:
    """Return whether promoting the version takes no more than a moment."""
    return bool(version.exported) and (version.kind != TWO_TOWER or version.exported in get_store().served())


def serve_version(
    version: ModelVersion, on_progress: Progress = lambda build: None, *, is_forced: bool = False
) -> LiveModel:
    """Let the version serve, what it needs made first. Searches go on with the live one meanwhile. Brings torch.

    Raises EngineError where the gate did not let it pass and it is not forced, or when it cannot be prepared.
    """
    from retrieval.indexing import build_shadow
    from retrieval.promotion import promote

    if not is_forced:
        check_verdict(version)
    registry.prepare(version)
    version.refresh_from_db()
    if not is_ready(version):
        build_shadow(version.name, on_progress)
    return promote(version.kind, str(registry.folder_of(version.name)))
