"""From changed products to a live generation: the story of the index, over database, models and engine."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from django.conf import settings
from django.utils import timezone

from catalog.models import Product
from retrieval.documents import CategoryNames, iterate_documents, to_document
from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns, ColumnsBuilder
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.index import Manifest
from retrieval.engine.lexicon import Lexicon, build_lexicon
from retrieval.engine.moments import MomentsBuilder
from retrieval.engine.text import embedding_text
from retrieval.engine.types import Document, IndexUnavailable, Point, Vectors
from retrieval.models import Embedding, IndexBuild, PendingChange
from retrieval.setup import (
    MODELS_DIR,
    create_index,
    get_analyzer,
    get_encoder,
    get_hnsw_settings,
    get_store,
    open_index,
    prune_generations,
    recipe_version,
)

logger = logging.getLogger(__name__)
Progress = Callable[[IndexBuild], None]
# Above this share of the catalogue, building anew is quicker than a copy with changes.
REBUILD_SHARE = 0.2


def rebuild(on_progress: Progress = lambda build: None) -> IndexBuild:
    """Build a generation of the whole catalogue and make it the live one. Searches go on meanwhile."""
    export_models()
    with get_store().write_lock():
        last_change = _last_pending()
        build = _run(_build_anew, on_progress)
        PendingChange.objects.filter(pk__lte=last_change).delete()
        return build


def index_pending(on_progress: Progress = lambda build: None) -> int:
    """Bring all waiting changes into the index and return how many products they were."""
    if not PendingChange.objects.exists():
        return 0
    export_models()
    with get_store().write_lock():
        last_change = _last_pending()
        changed = PendingChange.objects.filter(pk__lte=last_change).product_ids()
        if changed:
            live = _live_manifest()
            if live is None or len(changed) > REBUILD_SHARE * live[1].count:
                _run(_build_anew, on_progress)
            else:
                _run(lambda build, report: _build_from(live, changed, build), on_progress)
            PendingChange.objects.filter(pk__lte=last_change).delete()
    return len(changed)


def export_models() -> None:
    """Make sure that the models named in the settings exist in the form the engine runs."""
    from retrieval.learning.export import export_encoder, export_reranker

    export_encoder(settings.SEARCHSITE["MODEL"], MODELS_DIR)
    if settings.SEARCHSITE["RERANKER"]:
        export_reranker(settings.SEARCHSITE["RERANKER"], MODELS_DIR)


def _last_pending() -> int:
    return PendingChange.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _live_manifest() -> tuple[Path, Manifest] | None:
    """Return the live generation if it is one this site can go on with."""
    folder = get_store().current()
    if folder is None:
        return None
    try:
        manifest = Manifest.read(folder)
        manifest.check(model_version=get_encoder().model_version, recipe_version=recipe_version())
    except IndexUnavailable as error:
        logger.warning("building anew: %s", error)
        return None
    return folder, manifest


def _run(build_generation: Callable[[IndexBuild, Progress], Path], on_progress: Progress) -> IndexBuild:
    """Build a generation, publish it, and keep the record of both."""
    IndexBuild.objects.mark_interrupted()
    build = IndexBuild.objects.create(model_version=get_encoder().model_version, recipe_version=recipe_version())
    try:
        folder = build_generation(build, on_progress)
        get_store().publish(folder)
    except BaseException as error:
        build.state, build.error, build.finished_at = (
            IndexBuild.State.FAILED,
            str(error)[:2000],
            timezone.now(),
        )
        build.save()
        raise
    build.generation, build.finished_at = folder.name, timezone.now()
    build.save()
    IndexBuild.objects.mark_live(folder.name)
    build.refresh_from_db()
    prune_generations()
    return build


def _build_anew(build: IndexBuild, on_progress: Progress) -> Path:
    encoder, products = get_encoder(), Product.objects.active()
    build.products_total = products.count()
    lexicon = build_lexicon((document for batch in iterate_documents(products) for document in batch), get_analyzer())
    folder, manifest = get_store().begin(_new_manifest(encoder))
    index, manifest = create_index(folder, manifest)
    columns, moments = ColumnsBuilder(), MomentsBuilder(encoder.dim)
    bm25 = Bm25(get_analyzer(), lexicon.average_lengths)
    for documents in iterate_documents(products):
        vectors = embed_documents(documents, encoder, build, on_progress)
        index.upsert(_to_points(documents, vectors, bm25))
        columns.add(documents)
        moments.add(vectors)
    index.optimize()
    count = index.count()
    index.close()
    lexicon.save(folder)
    columns.build().save(folder)
    moments.build().save(folder)
    replace(manifest, count=count, is_complete=True).write(folder)
    return folder


def _new_manifest(encoder: TwoTowerEncoder) -> Manifest:
    return Manifest("", encoder.model_version, recipe_version(), encoder.dim, get_hnsw_settings())


def _build_from(live: tuple[Path, Manifest], changed: set[int], build: IndexBuild) -> Path:
    """Return a copy of the live generation with these products brought up to date."""
    build.is_full = False
    encoder = get_encoder()
    categories = CategoryNames()
    documents = [to_document(product, categories) for product in Product.objects.active().filter(pk__in=changed)]
    removed = sorted(changed - {document.product_id for document in documents})
    build.products_total = len(changed)
    folder, manifest = get_store().begin(live[1], copy_of=live[0])
    lexicon = Lexicon.load(folder)
    index = open_index(folder, manifest)  # on a server the live collection itself
    vectors = embed_documents(documents, encoder, build, lambda build: None)
    index.upsert(_to_points(documents, vectors, Bm25(get_analyzer(), lexicon.average_lengths)))
    index.delete(removed)
    index.optimize()
    count = index.count()
    index.close()
    lexicon.merge(build_lexicon(documents, get_analyzer())).save(folder)
    Columns.load(folder).update(documents, removed).save(folder)
    replace(manifest, count=count, is_complete=True).write(folder)
    return folder


def _to_points(documents: Sequence[Document], vectors: Vectors, bm25: Bm25) -> Iterable[Point]:
    for document, vector in zip(documents, vectors, strict=True):
        yield Point(document.product_id, vector, bm25.product_vector(document), document.content_hash)


def embed_documents(
    documents: Sequence[Document], encoder: TwoTowerEncoder, build: IndexBuild, on_progress: Progress
) -> Vectors:
    """Return the vectors of these products, shape (len(documents), dim). Texts seen before are not embedded again."""
    texts = [embedding_text(document, encoder.count_tokens, encoder.max_tokens) for document in documents]
    hashes = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts]
    known = _load_vectors(encoder.model_version, hashes)
    missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in known}
    already_done = build.products_done + len(documents) - len(missing)

    def report(done: int) -> None:
        build.products_done = already_done + done
        if done % 320 == 0:
            build.save(update_fields=["products_done", "products_total", "is_full"])
        on_progress(build)

    new = encoder.encode_products(list(missing.values()), report)
    _save_vectors(encoder.model_version, list(missing), new)
    known |= dict(zip(missing, new, strict=True))
    build.products_done = already_done + len(missing)
    build.embedded += len(missing)
    report(0) if not missing else None
    return np.array([known[digest] for digest in hashes], np.float32).reshape(len(documents), encoder.dim)


def _load_vectors(model_version: str, hashes: Sequence[str]) -> dict[str, Vectors]:
    rows = Embedding.objects.filter(model_version=model_version, text_hash__in=hashes)
    return {digest: np.frombuffer(vector, np.float32) for digest, vector in rows.values_list("text_hash", "vector")}


def _save_vectors(model_version: str, hashes: Sequence[str], vectors: Vectors) -> None:
    rows = [
        Embedding(model_version=model_version, text_hash=digest, vector=vector.tobytes())
        for digest, vector in zip(hashes, vectors, strict=True)
    ]
    Embedding.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
