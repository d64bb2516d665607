"""The pipeline's hybrid search over a corpus in memory, exact: what models learn from and are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.engine import fusion
from retrieval.engine.config import SearchConfig
from retrieval.engine.fusion import Evidence
from retrieval.engine.types import Ranking, Scores, Vectors
from retrieval.learning.negatives import BLOCK, Corpus, Encoder, find_best, to_matrix


@dataclass(frozen=True)
class MemorySearch:
    """Finds products of a corpus with vectors as `config` says, before any index is built for its model."""

    corpus: Corpus
    encoder: Encoder
    config: SearchConfig

    def search(self, texts: Sequence[str], limit: int) -> list[Ranking]:
        """Return for each text at most `limit` products with their fused scores, best first."""
        vectors = self.encoder.encode_queries(texts)
        return [
            ranking
            for start in range(0, len(texts), BLOCK)
            for ranking in self._search_block(texts[start : start + BLOCK], vectors[start : start + BLOCK], limit)
        ]

    def _search_block(self, texts: Sequence[str], vectors: Vectors, limit: int) -> list[Ranking]:
        assert self.corpus.vectors is not None
        asked = to_matrix([self.corpus.bm25.query_vector(text) for text in texts], self.corpus.terms)
        lexical = (asked @ self.corpus.weights.T).toarray()
        dense = vectors @ self.corpus.vectors.T
        lexical = np.where(lexical > 0, lexical, -np.inf)
        return [
            self._fuse(text, self._rank(words), self._rank(meaning), meaning, limit)
            for text, words, meaning in zip(texts, lexical, dense, strict=True)
        ]

    def _rank(self, scores: Scores) -> Ranking:
        best = find_best(scores, self.config.depth)
        return Ranking(self.corpus.product_ids[best], scores[best].astype(np.float32))

    def _fuse(self, text: str, lexical: Ranking, dense: Ranking, similarities: Scores, limit: int) -> Ranking:
        candidates = fusion.merge_candidates(lexical, dense)
        evidence = self._weigh(text, similarities)
        scores = fusion.fuse(candidates, evidence, fusion=self.config.fusion, dense_weight=self.config.dense_weight)
        order = np.argsort(-scores, kind="stable")[:limit]
        return Ranking(candidates.product_ids[order], scores[order].astype(np.float32))

    def _weigh(self, text: str, similarities: Scores) -> Evidence:
        """Return what is known about the query, as `Pipeline` weighs it."""
        weights = self.corpus.weigh_tokens(text)
        return Evidence(
            lexical_bound=sum(weights.values()) * (self.corpus.bm25.k1 + 1),
            dense_mean=float(similarities.mean()),
            dense_deviation=float(similarities.std()),
            code_share=fusion.share_of_codes(weights),
        )
