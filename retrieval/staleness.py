"""Vectors that are not what they should be: of other versions, of products that changed since, or missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from catalog.models import Product
from retrieval.engine.index import Manifest, is_finished
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.text import embedding_text
from retrieval.models import Embedding, PendingChange
from retrieval.sampling import Encoder, Sample
from retrieval.setup import get_store

EMBEDDED_AGAIN = 64  # products
SAME = 0.99  # cosine of one text's vectors, made now and when it was indexed

Report = dict[str, Any]


def find_stale(pipeline: Pipeline, encoder: Encoder, sample: Sample) -> Report:
    """Return how many products the index does not hold as they are now, and what other versions left behind."""
    indexed = pipeline.generation.index.content_hashes()
    current = dict(Product.objects.active().values_list("pk", "content_hash").iterator())
    live = Manifest.read(get_store().root / pipeline.generation.name)
    return {
        "recipe_version": live.recipe_version,
        "vectors": len(indexed),
        "missing": len(current.keys() - indexed.keys()),
        "gone": len(indexed.keys() - current.keys()),
        "changed": sum(indexed.get(product_id, digest) != digest for product_id, digest in current.items()),
        "pending": len(PendingChange.objects.all().product_ids()),
        "kept_of_other_models": Embedding.objects.exclude(model_version=live.model_version).count(),
        "generations": list_generations(live),
    } | _embed_again(encoder, sample, indexed)


def list_generations(live: Manifest) -> list[Report]:
    """Return every finished generation on disk, and whether its versions are those of the live one."""
    manifests = [Manifest.read(folder) for folder in get_store().folders() if is_finished(folder)]
    return [
        {
            "name": each.name,
            "model_version": each.model_version,
            "recipe_version": each.recipe_version,
            "products": each.count,
            "is_live": each.name == live.name,
            "is_of_live_version": (each.model_version, each.recipe_version)
            == (live.model_version, live.recipe_version),
        }
        for each in manifests
    ]


def _embed_again(encoder: Encoder, sample: Sample, indexed: dict[int, str]) -> Report:
    """Return how many of a few unchanged products have another vector than the model gives their text now."""
    rows = [
        row
        for row, document in enumerate(sample.documents)
        if indexed.get(document.product_id) == document.content_hash
    ][:EMBEDDED_AGAIN]
    texts = [embedding_text(sample.documents[row], encoder.count_tokens, encoder.max_tokens) for row in rows]
    cosines = np.einsum("ij,ij->i", encoder.encode_products(texts), sample.products[rows]) if rows else np.ones(0)
    return {"embedded_again": len(rows), "drifted": int((cosines < SAME).sum())}
