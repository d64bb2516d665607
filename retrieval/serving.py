"""From a model version to one that serves: judged, prepared, an index built for its vectors, promoted."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

from catalog.models import Product
from retrieval import registry
from retrieval.documents import iterate_documents
from retrieval.embedding import Progress
from retrieval.engine.text import reader_text
from retrieval.engine.types import EngineError
from retrieval.generations import get_store
from retrieval.learning.versions import DEFAULT
from retrieval.live import CROSS_ENCODER, TWO_TOWER, LiveModel, find_live, has_served
from retrieval.models import IndexBuild, ModelVersion

logger = logging.getLogger(__name__)
SERVE, BUILD = "to serve", "to have an index beside the live one"
MEANWHILE_S = 10.0
NEVER_JUDGED = "it was never judged on this shop"
CALIBRATION_PRODUCTS, CALIBRATION_PAIRS = 2000, 300


def check_verdict(version: ModelVersion) -> None:
    """Raise EngineError unless the gate let the version pass against what serves now, or it has served before."""
    if registry.is_live(version) or has_served(version.kind, registry.names_of(version)):
        return
    verdict = version.verdict
    if not verdict.get("is_passed"):
        reason = verdict.get("reason") or NEVER_JUDGED
        raise EngineError(f"{version.name} is not shown to be better ({reason}); to let it serve anyway, force it")
    champion, live = verdict.get("champion"), find_live(version.kind).version
    if champion != live:
        raise EngineError(
            f"{version.name} was shown to be better than {champion}, and {live} serves now; go back to the model "
            "before, train it anew, or force it"
        )


def check_other(kind: str, name: str) -> None:
    """Raise EngineError for a model that is no version, unless it has served or shops start with it.

    An empty name stands for no reranker.
    """
    is_first = name == ("" if kind == CROSS_ENCODER else DEFAULT)
    if not is_first and not has_served(kind, [name]):
        raise EngineError(f"{name} is not shown to be better ({NEVER_JUDGED}); to let it serve anyway, force it")


def is_ready(version: ModelVersion) -> bool:
    """Return whether promoting the version takes no more than a moment."""
    return bool(version.exported) and (version.kind != TWO_TOWER or version.exported in get_store().served())


def serve_version(
    version: ModelVersion,
    on_progress: Progress = lambda build: None,
    *,
    is_forced: bool = False,
    precision: str = "float",
) -> LiveModel:
    """Let the version serve, what it needs made first. Searches go on with the live one meanwhile. Brings torch.

    `precision`: float, or int8 for a cross-encoder. Raises EngineError where the gate did not let it pass and it is
    not forced, or when it cannot be prepared.
    """
    from retrieval.indexing import build_shadow

    if not is_forced:
        check_verdict(version)
    if precision == "int8" and version.kind == TWO_TOWER:
        raise EngineError(f"{version.name} is a {TWO_TOWER} model: int8 is for cross-encoders")
    registry.prepare(version)
    version.refresh_from_db()
    if precision == "int8":
        registry.prepare(version, quantize_with=make_calibration_pairs())
    if not is_ready(version):
        build_shadow(version.name, on_progress)
    return let_serve(version, is_forced=is_forced, precision=precision)


def let_serve(version: ModelVersion, *, is_forced: bool = False, precision: str = "float") -> LiveModel:
    """Let a version serve that is ready to; raises as `serve_version`, and for one that is not ready.

    The verdict is looked at again: another may have been promoted while this one was made ready.
    """
    from retrieval.promotion import promote

    check = (lambda: None) if is_forced else partial(check_verdict, version)
    return promote(version.kind, str(registry.folder_of(version.name)), precision=precision, check=check)


def build_beside(version: ModelVersion, on_progress: Progress = lambda build: None) -> None:
    """Build the version's index beside the live one: promoting it is then a moment. Brings torch.

    Raises EngineError for a cross-encoder, and when the version cannot be prepared.
    """
    from retrieval.indexing import build_shadow

    if version.kind != TWO_TOWER:
        raise EngineError(f"{version.name} is a {version.kind} model: it needs no index")
    registry.prepare(version)
    build_shadow(version.name, on_progress)


def retire_version(version: ModelVersion) -> None:
    """Let the version serve no more beside the live one; raises EngineError as `promotion.retire`."""
    from retrieval.promotion import retire

    if not version.exported:
        raise EngineError(f"model version {version.name} was never prepared, so it serves nowhere")
    retire(version.exported)


# --- on a worker --------------------------------------------------------------------------------------


def tell_work(version: ModelVersion, text: str) -> None:
    """Keep on the version's row what a worker does with it, or is to do."""
    ModelVersion.objects.filter(pk=version.pk).update(work=text[:2000])


@contextmanager
def telling_work(version: ModelVersion, task: str) -> Iterator[None]:
    """Keep on the version's row what is done with it until the block ends, and the reason if it fails."""
    tell_work(version, f"{task}: at work")
    try:
        yield
    except BaseException as error:
        tell_work(version, f"{task}: failed: {error}")
        raise
    tell_work(version, "")


def index_meanwhile() -> Progress:
    """Return what brings waiting changes in while vectors are made: a worker does one thing at a time."""
    from retrieval.indexing import index_pending

    since = monotonic()

    def follow(build: IndexBuild) -> None:
        nonlocal since
        if build.state != IndexBuild.State.PREPARING or monotonic() - since < MEANWHILE_S:
            return
        try:
            index_pending()
        except (EngineError, OSError) as error:
            logger.error("changes wait until an index is built: %s", error)
        since = monotonic()

    return follow


# --- int8 ---------------------------------------------------------------------------------------------


def make_calibration_pairs(seed: int = 1) -> list[tuple[str, str]]:
    """Return queries made from this shop's catalogue with texts of its products, half of them answers.

    Raises EngineError for a catalogue without products.
    """
    from retrieval.learning.made_queries import make_queries

    rng = random.Random(f"calibration-{seed}")
    product_ids = list(Product.objects.active().order_by("pk").values_list("pk", flat=True))
    chosen = rng.sample(product_ids, min(len(product_ids), CALIBRATION_PRODUCTS))
    batches = iterate_documents(Product.objects.filter(pk__in=chosen))
    documents = {document.product_id: document for batch in batches for document in batch}
    queries = make_queries(list(documents.values()), CALIBRATION_PAIRS, seed)
    if not queries:
        raise EngineError("int8 is fitted to this shop's products, and none is on sale; import a catalogue first")
    answers = [rng.choice(query.positives if rng.random() < 0.5 else list(documents)) for query in queries]
    return [(query.text, reader_text(documents[one])) for query, one in zip(queries, answers, strict=True)]
