"""Embeds the whole catalogue three times in one process and prints the times as JSON.

Bare, from texts to vectors; from the catalogue to stored vectors; and within a whole rebuild of the index.
"""

from __future__ import annotations

import json
import time

import django


def main() -> None:
    django.setup()
    from catalog.models import Product
    from retrieval import indexing, setup
    from retrieval.documents import iterate_documents
    from retrieval.embedding import embed_batches
    from retrieval.engine.text import embedding_text
    from retrieval.models import Embedding, IndexBuild

    encoder, products = setup.get_encoder(), Product.objects.active()
    encoder.encode_products(["warm up"] * 64)
    texts = {
        embedding_text(document, encoder.count_tokens, encoder.max_tokens)
        for documents in iterate_documents(products)
        for document in documents
    }
    start = time.perf_counter()
    encoder.encode_products(sorted(texts))
    alone_s = time.perf_counter() - start
    Embedding.objects.all().delete()
    start = time.perf_counter()
    build = IndexBuild.objects.create(products_total=products.count())
    for _ in embed_batches(iterate_documents(products), encoder, build, lambda build: None):
        pass
    stored_s = time.perf_counter() - start
    assert build.embedded == len(texts)
    build.delete()
    Embedding.objects.all().delete()
    start = time.perf_counter()
    embedded = indexing.rebuild().embedded
    rebuild_s = time.perf_counter() - start
    assert embedded == len(texts)
    print(json.dumps({"texts": len(texts), "alone_s": alone_s, "stored_s": stored_s, "rebuild_s": rebuild_s}))


if __name__ == "__main__":
    main()
