"""Merging what two searches found into one ranking. Every rule is a pure function of ranks and scores.

All take rankings best first and return one score for each product of `Candidates`, higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine.text import has_digit
from retrieval.engine.types import EngineError, Ids, Ranking

Floats = npt.NDArray[np.float64]
RRF_K = 60  # Cormack, Clarke & Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet"


@dataclass(frozen=True, slots=True)
class Side:
    """One search's view of the candidates: arrays of shape (n,), rank 0 and score nan where it found nothing."""

    ranks: npt.NDArray[np.int64]
    scores: Floats

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        return self.ranks > 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the query, to judge its scores by.

    `lexical_bound`: the BM25 score of a product that had every query term without end. `dense_mean` and
    `dense_deviation`: of the query's similarity to all products. `code_share`: how much of the query's
    weight lies in tokens with digits, 0 to 1.
    """

    lexical_bound: float = 1.0
    dense_mean: float = 0.0
    dense_deviation: float = 1.0
    code_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """All products that either search found, each once."""

    product_ids: Ids
    lexical: Side
    dense: Side


def merge_candidates(lexical: Ranking, dense: Ranking) -> Candidates:
    """Return the union of two rankings, dense hits first."""
    product_ids = np.concatenate(
        [dense.product_ids, lexical.product_ids[~np.isin(lexical.product_ids, dense.product_ids)]]
    )
    order = np.argsort(product_ids, kind="stable")
    positions = product_ids[order]
    return Candidates(product_ids, _side(lexical, positions, order), _side(dense, positions, order))


def _side(ranking: Ranking, positions: Ids, order: npt.NDArray[np.intp]) -> Side:
    ranks = np.zeros(len(positions), np.int64)
    scores = np.full(len(positions), np.nan)
    where = order[np.searchsorted(positions, ranking.product_ids)]
    ranks[where] = np.arange(1, len(ranking) + 1)
    scores[where] = ranking.scores
    return Side(ranks, scores)


def fuse(candidates: Candidates, evidence: Evidence, *, fusion: str, dense_weight: float) -> Floats:
    """Return the fused scores under the rule named `fusion`; raises EngineError for an unknown one."""
    lexical, dense = candidates.lexical, candidates.dense
    if fusion == "lexical":
        return np.nan_to_num(lexical.scores, nan=0.0)
    if fusion == "dense":
        return np.nan_to_num(dense.scores, nan=-1.0)
    if fusion == "rrf":
        return reciprocal_ranks(lexical) + reciprocal_ranks(dense)
    if fusion == "weighted":
        return dense_weight * scale_to_best(dense) + (1 - dense_weight) * scale_to_best(lexical)
    if fusion == "dbsf":
        return scale_by_distribution(dense) + scale_by_distribution(lexical)
    if fusion == "adaptive":
        return fuse_adaptively(lexical, dense, evidence, dense_weight)
    raise EngineError(f"unknown fusion {fusion!r}, expected one of: adaptive, weighted, rrf, dbsf, lexical, dense")


def fuse_adaptively(lexical: Side, dense: Side, evidence: Evidence, dense_weight: float) -> Floats:
    """Return scores in which each side counts for as much as it knows about this query.

    The lexical side gives the share of the query's term weight that a product covers: terms the catalogue
    does not have lower it for every product. The dense side gives how far a product stands out from the
    catalogue, in standard deviations, relative to the best. Half of each is its rank, which separates the
    best where scores are flat. Tokens with digits move their share of the weight to the lexical side, if they are found
    there: a vector knows that 'rtx 2060' is a graphics card, only words know which.
    """
    weight = dense_weight * (1 - evidence.code_share) if lexical.found.any() else dense_weight
    semantic = 0.5 * standardize(dense, evidence) + 0.5 * reciprocal_ranks(dense) * (RRF_K + 1)
    literal = 0.5 * cover(lexical, evidence) + 0.5 * reciprocal_ranks(lexical) * (RRF_K + 1)
    return weight * semantic + (1 - weight) * literal


def cover(lexical: Side, evidence: Evidence) -> Floats:
    """Return the share of the query's term weight that each product covers, 0 to 1."""
    return np.nan_to_num(lexical.scores, nan=0.0) / max(evidence.lexical_bound, 1e-9)


def deviations(dense: Side, evidence: Evidence) -> Floats:
    """Return how many standard deviations each product lies above the query's mean similarity, nan if unknown."""
    return (dense.scores - evidence.dense_mean) / max(evidence.dense_deviation, 1e-9)


def standardize(dense: Side, evidence: Evidence) -> Floats:
    """Return the deviations relative to the best; products beyond the search's depth get the last known."""
    if not dense.found.any():
        return np.zeros(len(dense.ranks))
    z = deviations(dense, evidence)
    return np.nan_to_num(z, nan=float(np.nanmin(z))) / max(float(np.nanmax(z)), 1e-9)


def reciprocal_ranks(side: Side, k: int = RRF_K) -> Floats:
    """Return 1 / (k + rank), 0 where not found."""
    return np.where(side.found, 1.0 / (k + side.ranks), 0.0)


def scale_to_best(side: Side) -> Floats:
    """Return the scores divided by the best one, 0 where not found."""
    if not side.found.any():
        return np.zeros(len(side.ranks))
    return np.nan_to_num(side.scores / max(float(np.nanmax(side.scores)), 1e-9), nan=0.0)


def scale_by_distribution(side: Side) -> Floats:
    """Return the scores scaled so that mean ± 3 standard deviations is 0 to 1, 0 where not found.

    Distribution-based score fusion: Mazzeschi 2023.
    """
    if not side.found.any():
        return np.zeros(len(side.ranks))
    mean, deviation = float(np.nanmean(side.scores)), float(np.nanstd(side.scores))
    scaled = (side.scores - mean + 3 * deviation) / max(6 * deviation, 1e-9)
    return np.nan_to_num(np.clip(scaled, 0, 1), nan=0.0)


def share_of_codes(weights: Mapping[str, float]) -> float:
    """Return how much of the weight of a query's tokens lies in those with digits, 0 to 1."""
    total = sum(weights.values())
    return sum(weight for token, weight in weights.items() if has_digit(token)) / total if total else 0.0


def soften_blend(blend: float, code_share: float) -> float:
    """Return how much a reranker counts: a model has read of laptops and cases, not which product is the 'p1005'.

    Next to words it still knows more than fusion does, so that half a code takes a quarter of its share.
    """
    return blend * (1 - code_share**2)


def order_by_blend(fused: Floats, scores: Floats, blend: float, span: float = 0.0) -> npt.NDArray[np.intp]:
    """Return the order, best first, when `blend` of each product's score is the reranker's and the rest fusion's.

    `span`: how far apart the reranker's scores of right and wrong products usually are. Where it is known, scores are
    told in it and fusion's relative to the best, so that a reranker to which all are alike changes little. Where it is
    0, both are moved to 0 to 1 over these products. Ties keep their order.
    """
    if span:
        blended = blend * scores / span + (1 - blend) * fused / max(float(fused.max(initial=0.0)), 1e-9)
    else:
        blended = blend * scale_to_range(scores) + (1 - blend) * scale_to_range(fused)
    return np.argsort(-blended, kind="stable")


def scale_to_range(scores: Floats) -> Floats:
    """Return the scores moved to 0 to 1; all 0 where they are the same."""
    span = float(scores.max() - scores.min())
    return (scores - scores.min()) / span if span else np.zeros(len(scores))
