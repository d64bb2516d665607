"""A ranking read again by a cross-encoder, and how good a ranking is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.engine.fusion import order_by_blend
from retrieval.engine.text import full_text
from retrieval.engine.types import Ids, Ranking
from retrieval.learning.negatives import Corpus, Teacher


@dataclass(frozen=True)
class Reading:
    """A cross-encoder and how much of it counts: none leaves the order as it is."""

    reranker: Teacher | None = None
    depth: int = 0
    blend: float = 0.0


def read_again(text: str, ranking: Ranking, corpus: Corpus, reading: Reading) -> Ids:
    """Return the products in the order after the cross-encoder read the best of them, as `Pipeline` does it."""
    depth, found = min(reading.depth, len(ranking)), ranking.product_ids
    if reading.reranker is None or depth < 2:
        return found
    texts = []
    for product_id in found[:depth].tolist():
        document = corpus.documents[corpus.places[product_id]]
        texts.append((document.content_hash, full_text(document)))
    scores = reading.reranker.score(text, texts).astype(np.float64)
    order = order_by_blend(ranking.scores[:depth].astype(np.float64), scores, reading.blend)
    return np.concatenate([found[:depth][order], found[depth:]])


def ndcg(found: Sequence[int], grades: Mapping[int, float], *, is_condensed: bool = False) -> float:
    """Return nDCG@10 with linear gains, 0 to 1; condensed leaves out products without a grade (Sakai 2007)."""
    seen = [product_id for product_id in found if product_id in grades] if is_condensed else list(found)
    gains = np.array([max(grades.get(product_id, 0.0), 0.0) for product_id in seen[:10]])
    ideal = np.array(sorted((max(grade, 0.0) for grade in grades.values()), reverse=True)[:10])
    best = float((ideal / np.log2(np.arange(len(ideal)) + 2)).sum())
    return float((gains / np.log2(np.arange(len(gains)) + 2)).sum()) / best if best else 0.0
