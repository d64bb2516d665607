"""Products like another, by the vectors they already have."""

from __future__ import annotations

from catalog.models import Product
from retrieval.engine.types import EngineError
from retrieval.setup import get_pipeline


def find_similar(product: Product, limit: int = 6) -> list[Product]:
    """Return active products most like this one; without an index, popular ones of its category."""
    try:
        index = get_pipeline("lexical").generation.index
        vectors = index.fetch_dense([product.pk])
        found = index.search_dense(vectors[product.pk], limit=limit * 3).product_ids.tolist() if vectors else []
    except EngineError:
        found = []
    similar = [other for other in Product.objects.active().in_order(found) if other.pk != product.pk]
    if not similar and product.category_id:
        others = Product.objects.active().filter(category_id=product.category_id).exclude(pk=product.pk)
        similar = list(others.order_by("-popularity")[:limit])
    return similar[:limit]
