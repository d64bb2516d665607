"""Embeds the whole catalogue twice in one process, bare and inside a rebuild, and prints both times as JSON."""

from __future__ import annotations

import json
import time

import django


def main() -> None:
    django.setup()
    from catalog.models import Product
    from retrieval import indexing, setup
    from retrieval.documents import iterate_documents
    from retrieval.engine.text import embedding_text
    from retrieval.models import Embedding

    encoder = setup.get_encoder()
    encoder.encode_products(["warm up"] * 64)
    texts = [
        embedding_text(document, encoder.count_tokens, encoder.max_tokens)
        for documents in iterate_documents(Product.objects.active())
        for document in documents
    ]
    start = time.perf_counter()
    encoder.encode_products(texts)
    alone_s = time.perf_counter() - start
    Embedding.objects.all().delete()
    start = time.perf_counter()
    build = indexing.rebuild()
    rebuild_s = time.perf_counter() - start
    print(json.dumps({"texts": len(texts), "embedded": build.embedded, "alone_s": alone_s, "rebuild_s": rebuild_s}))


if __name__ == "__main__":
    main()
