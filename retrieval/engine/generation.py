"""An open generation: one model version's vectors with the facts and words of the same products."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.engine.bm25 import Bm25
from retrieval.engine.columns import Columns
from retrieval.engine.index import ProductIndex
from retrieval.engine.lexicon import Lexicon
from retrieval.engine.moments import Moments


@dataclass(frozen=True)
class Generation:
    name: str
    index: ProductIndex
    columns: Columns
    lexicon: Lexicon
    moments: Moments
    bm25: Bm25
