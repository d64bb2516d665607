"""Filling a generation with a catalogue, whole or from the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from catalog.models import Product, ProductQuerySet
from retrieval.changes import Changes
from retrieval.documents import CategoryNames, iterate_documents, to_document
from retrieval.embedding import Progress, embed_batches
from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns, ColumnsBuilder
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.index import Manifest
from retrieval.engine.lexicon import Lexicon, LexiconBuilder, build_lexicon
from retrieval.engine.moments import MomentsBuilder
from retrieval.engine.text import field_tokens
from retrieval.engine.types import Document, Point, Vectors
from retrieval.generations import (
    create_index,
    get_analyzer,
    get_hnsw_settings,
    get_store,
    open_index,
    recipe_version,
)
from retrieval.models import IndexBuild
from retrieval.setup import get_encoder

LENGTHS_SAMPLE = 2000  # products, which give mean lengths to some 2 %


def make_vectors(build: IndexBuild, on_progress: Progress) -> None:
    """Make the vectors that products lack under the build's model. Takes no lock: nothing but rows is written."""
    products = Product.objects.active()
    build.products_total = products.count()
    for _ in embed_batches(iterate_documents(products), get_encoder(build.model_version), build, on_progress):
        pass
    build.products_done = 0


def build_anew(build: IndexBuild, changes: Changes, on_progress: Progress) -> Path:
    """Return a new generation of the whole catalogue, noting that it has the changes."""
    encoder, products = get_encoder(build.model_version), Product.objects.active()
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
    replace(manifest, count=count, changes=changes.stamp, is_complete=True).write(folder)
    return folder


def measure_lengths(products: ProductQuerySet) -> dict[str, float]:
    """Return the mean number of tokens of each BM25 field, from products spread evenly over the catalogue."""
    product_ids = list(products.order_by("pk").values_list("pk", flat=True))
    sample = products.filter(pk__in=product_ids[:: -(-len(product_ids) // LENGTHS_SAMPLE) or 1])
    documents = (document for batch in iterate_documents(sample) for document in batch)
    return build_lexicon(documents, get_analyzer()).average_lengths


def _new_manifest(encoder: TwoTowerEncoder) -> Manifest:
    return Manifest("", encoder.model_version, recipe_version(), encoder.dim, get_hnsw_settings())


def build_from(build: IndexBuild, before: tuple[Path, Manifest], changes: Changes) -> Path:
    """Return a copy of the generation before with these products brought up to date."""
    build.is_full = False
    encoder, changed = get_encoder(build.model_version), changes.product_ids
    categories = CategoryNames()
    documents = [to_document(product, categories) for product in Product.objects.active().filter(pk__in=changed)]
    removed = sorted(changed - {document.product_id for document in documents})
    build.products_total = len(changed)
    folder, manifest = get_store().begin(before[1], copy_of=before[0])
    lexicon, added = Lexicon.load(folder), LexiconBuilder()
    index = open_index(folder, manifest)  # on a server the same collection
    bm25 = Bm25(get_analyzer(), lexicon.average_lengths)
    for batch, vectors in embed_batches([documents], encoder, build, lambda build: None):
        index.upsert(_to_points(batch, vectors, bm25, added))
    index.delete(removed)
    index.optimize()
    count = index.count()
    index.close()
    lexicon.merge(added.build()).save(folder)
    Columns.load(folder).update(documents, removed).save(folder)
    replace(manifest, count=count, changes=changes.stamp, is_complete=True).write(folder)
    return folder


def _to_points(documents: Sequence[Document], vectors: Vectors, bm25: Bm25, lexicon: LexiconBuilder) -> Iterator[Point]:
    """Yield the points of these documents, and count their words."""
    for document, vector in zip(documents, vectors, strict=True):
        tokens = field_tokens(document, bm25.analyzer)
        lexicon.add(document, tokens)
        yield Point(document.product_id, vector, bm25.weigh(tokens), document.content_hash)
