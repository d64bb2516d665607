"""From changed products to a live generation: the story of the index, over database, models and engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from catalog.models import Product, ProductQuerySet
from retrieval.documents import CategoryNames, iterate_documents, to_document
from retrieval.embedding import Progress, embed_batches
from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns, ColumnsBuilder
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.index import Manifest
from retrieval.engine.lexicon import Lexicon, LexiconBuilder, build_lexicon
from retrieval.engine.moments import MomentsBuilder
from retrieval.engine.text import field_tokens
from retrieval.engine.types import Document, IndexUnavailable, Point, Vectors
from retrieval.models import IndexBuild, PendingChange
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
# Above this share of the catalogue, building anew is quicker than a copy with changes.
REBUILD_SHARE = 0.2
LENGTHS_SAMPLE = 2000  # products, which give mean lengths to some 2 %


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
    average_lengths = measure_lengths(products)
    folder, manifest = get_store().begin(_new_manifest(encoder))
    index, manifest = create_index(folder, manifest)
    columns, moments, lexicon = ColumnsBuilder(), MomentsBuilder(encoder.dim), LexiconBuilder()
    bm25 = Bm25(get_analyzer(), average_lengths)
    for documents, vectors in embed_batches(iterate_documents(products), encoder, build, on_progress):
        index.upsert(_to_points(documents, vectors, bm25, lexicon))
        columns.add(documents)
        moments.add(vectors)
    index.optimize()
    count = index.count()
    index.close()
    lexicon.build(average_lengths).save(folder)
    columns.build().save(folder)
    moments.build().save(folder)
    replace(manifest, count=count, is_complete=True).write(folder)
    return folder


def measure_lengths(products: ProductQuerySet) -> dict[str, float]:
    """Return the mean number of tokens of each BM25 field, from products spread evenly over the catalogue."""
    product_ids = list(products.order_by("pk").values_list("pk", flat=True))
    sample = products.filter(pk__in=product_ids[:: -(-len(product_ids) // LENGTHS_SAMPLE) or 1])
    documents = (document for batch in iterate_documents(sample) for document in batch)
    return build_lexicon(documents, get_analyzer()).average_lengths


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
    lexicon, added = Lexicon.load(folder), LexiconBuilder()
    index = open_index(folder, manifest)  # on a server the live collection itself
    bm25 = Bm25(get_analyzer(), lexicon.average_lengths)
    for batch, vectors in embed_batches([documents], encoder, build, lambda build: None):
        index.upsert(_to_points(batch, vectors, bm25, added))
    index.delete(removed)
    index.optimize()
    count = index.count()
    index.close()
    lexicon.merge(added.build()).save(folder)
    Columns.load(folder).update(documents, removed).save(folder)
    replace(manifest, count=count, is_complete=True).write(folder)
    return folder


def _to_points(documents: Sequence[Document], vectors: Vectors, bm25: Bm25, lexicon: LexiconBuilder) -> Iterator[Point]:
    """Yield the points of these documents, and count their words."""
    for document, vector in zip(documents, vectors, strict=True):
        tokens = field_tokens(document, bm25.analyzer)
        lexicon.add(document, tokens)
        yield Point(document.product_id, vector, bm25.weigh(tokens), document.content_hash)
