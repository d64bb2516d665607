"""All that answers one text: kept for a while, so that its pages, filters and sorts speak of the same set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine import fusion
from retrieval.engine.fusion import Floats
from retrieval.engine.query import ParsedQuery
from retrieval.engine.types import Explanation, Ids, Scores


@dataclass(frozen=True)
class ResultSet:
    """All products that answer a text, best first; filters, counts, sorts and pages speak of this set."""

    product_ids: Ids
    scores: Scores
    explanations: ExplanationTable
    parsed: ParsedQuery
    corrected_from: str = ""
    suggestion: str = ""


@dataclass(frozen=True)
class ExplanationTable:
    """Ranks and scores of every stage as arrays over the result set, made into objects for the page shown."""

    lexical: fusion.Side
    dense: fusion.Side
    fused: Floats
    rerank: Floats  # nan where the cross-encoder did not look

    def select(self, positions: npt.NDArray[np.intp]) -> ExplanationTable:
        def pick(side: fusion.Side) -> fusion.Side:
            return fusion.Side(side.ranks[positions], side.scores[positions])

        return ExplanationTable(pick(self.lexical), pick(self.dense), self.fused[positions], self.rerank[positions])

    def row(self, position: int, fused_rank: int) -> Explanation:
        return Explanation(
            lexical_rank=int(self.lexical.ranks[position]) or None,
            lexical_score=_or_none(self.lexical.scores[position]),
            dense_rank=int(self.dense.ranks[position]) or None,
            dense_score=_or_none(self.dense.scores[position]),
            fused_rank=fused_rank,
            fused_score=_or_none(self.fused[position]),
            rerank_score=_or_none(self.rerank[position]),
        )


def join_tables(first: ExplanationTable, second: ExplanationTable) -> ExplanationTable:
    def join(a: fusion.Side, b: fusion.Side) -> fusion.Side:
        return fusion.Side(np.concatenate([a.ranks, b.ranks]), np.concatenate([a.scores, b.scores]))

    return ExplanationTable(
        join(first.lexical, second.lexical),
        join(first.dense, second.dense),
        np.concatenate([first.fused, second.fused]),
        np.concatenate([first.rerank, second.rerank]),
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
