"""A ranking read again by a cross-encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.engine.fusion import order_by_blend, share_of_codes, soften_blend
from retrieval.engine.parts import Reranker
from retrieval.engine.types import Ids, Ranking
from retrieval.learning.negatives import Corpus


@dataclass(frozen=True)
class Reading:
    """A cross-encoder and how much of it counts: none leaves the order as it is."""

    reranker: Reranker | None = None
    depth: int = 0
    blend: float = 0.0


def read_again(text: str, ranking: Ranking, corpus: Corpus, reading: Reading) -> Ids:
    """Return the products in the order after the cross-encoder read the best of them, as `Pipeline` does it."""
    depth, found = min(reading.depth, len(ranking)), ranking.product_ids
    if reading.reranker is None or depth < 2:
        return found
    texts = [corpus.text_of(product_id) for product_id in found[:depth].tolist()]
    scores = reading.reranker.score(text, texts).astype(np.float64)
    blend = soften_blend(reading.blend, share_of_codes(corpus.weigh_tokens(text)))
    order = order_by_blend(ranking.scores[:depth].astype(np.float64), scores, blend, reading.reranker.span)
    return np.concatenate([found[:depth][order], found[depth:]])
