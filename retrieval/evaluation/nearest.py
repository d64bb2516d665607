"""What is lost when the nearest products are looked for in less than all there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from retrieval.engine.index import ProductIndex
from retrieval.engine.moments import Moments
from retrieval.engine.points import OVERSAMPLING
from retrieval.engine.types import Ranking, Vectors
from retrieval.evaluation.metrics import Floats

TOP = 10
EFS = (8, 16, 32, 64, 128, 256, 512)
SIZES = (64, 96, 128, 192, 256, 320, 384)
CANDIDATES = 100  # of the short vectors, rescored with the full ones
EQUAL = 1e-5  # scores no further apart are the same but for rounding
QUANTILE = 0.99  # of the numbers, which int8 covers; as EdgeIndex asks for
LEVELS = 127
UNUSUAL = 0.05  # share of the catalogue's own queries that are taken for far from it
NEAR = 0.5  # cosine: queries at least so alike ask for related things


@dataclass(frozen=True, slots=True)
class EfPoint:
    """Recall of the graph against exact search, and the time of one search, at one breadth `ef`."""

    ef: int
    limit: int
    recall: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class SizeLoss:
    """recall@10 of shorter vectors against full ones, alone and with the best rescored by full vectors."""

    dims: int
    recall: float
    recall_rescored: float
    memory_share: float


@dataclass(frozen=True, slots=True)
class CodeLoss:
    """recall@10 of vectors in int8, alone and rescored, and the mean error of a score."""

    recall: float
    recall_rescored: float
    score_error: float


@dataclass(frozen=True, slots=True)
class Shift:
    """Shares of queries, 0 to 1, that the model or the shop may have no answer to; None where it cannot be known.

    `far_from_products`: the best product is less alike than `limit`, the best of nearly every query made of the
    catalogue's own words. `below_chance`: it stands out no more than the best of so many would by chance; on a
    shop of one trade broad queries do not either. `far_from_known`: no query learned from is near.
    """

    queries: int
    limit: float | None
    far_from_products: float | None
    below_chance: float
    far_from_known: float | None
    farthest: tuple[int, ...]  # those far from all products, by number, the farthest first


def recall_of(found: Floats, exact: Floats, top: int = TOP) -> float:
    """Return the share of the best `top` that was found, by true scores, both best first.

    A product as near as the last of them counts: which of equals comes in is no loss. Nothing to find gives 1.
    """
    wanted = min(top, len(exact))
    return min(float((found[:wanted] >= exact[wanted - 1] - EQUAL).sum()) / wanted, 1.0) if wanted else 1.0


def measure_graph(
    index: ProductIndex, queries: Vectors, settings: Sequence[tuple[int, int]], report: Callable[[int], None]
) -> tuple[list[EfPoint], EfPoint]:
    """Return the point of each (ef, limit), and that of exact search, whose recall is 1.

    `report` is called after each setting with how many are done. Raises ValueError without queries.
    """
    if not len(queries):
        raise ValueError("no queries to search for, expected at least one")
    searches = [_search_all(index, queries, ef=TOP, limit=TOP, is_exact=True)]
    report(1)
    for ef, limit in settings:
        searches.append(_search_all(index, queries, ef=ef, limit=limit, is_exact=False))
        report(len(searches))
    exact = searches[0][0]
    points = [
        _to_point(ef, limit, found, exact, times)
        for (ef, limit), (found, times) in zip([(0, TOP), *settings], searches, strict=True)
    ]
    return points[1:], points[0]


def _search_all(
    index: ProductIndex, queries: Vectors, *, ef: int, limit: int, is_exact: bool
) -> tuple[list[Ranking], list[float]]:
    """Return the rankings and how many milliseconds each took."""
    index.search_dense(queries[0], limit=limit, ef=ef, is_exact=is_exact)  # not measured: files are read for it
    rankings, times = [], []
    for query in queries:
        start = perf_counter()
        rankings.append(index.search_dense(query, limit=limit, ef=ef, is_exact=is_exact))
        times.append((perf_counter() - start) * 1000)
    return rankings, times


def _to_point(ef: int, limit: int, found: list[Ranking], exact: list[Ranking], times: list[float]) -> EfPoint:
    recalls = [
        recall_of(one.scores.astype(np.float64), other.scores.astype(np.float64))
        for one, other in zip(found, exact, strict=True)
    ]
    p50, p95 = np.percentile(times, [50, 95]).round(3).tolist()
    return EfPoint(ef, limit, float(np.mean(recalls)), p50, p95)


def measure_sizes(products: Vectors, queries: Vectors, sizes: Sequence[int] = SIZES) -> list[SizeLoss]:
    """Return what the first dimensions alone find of the true 10 nearest; sizes above the full one are left out.

    Short vectors are scaled to unit length. With rescoring, the best CANDIDATES are ordered by full vectors.
    """
    full, dim = queries @ products.T, products.shape[1]
    losses = []
    for dims in sorted({min(size, dim) for size in sizes}):
        short = _unit(queries[:, :dims]) @ _unit(products[:, :dims]).T
        recall, rescored = _compare_scores(short, full, CANDIDATES)
        losses.append(SizeLoss(dims, recall, rescored, dims / dim))
    return losses


def measure_quantization(products: Vectors, queries: Vectors) -> CodeLoss:
    """Return what search in int8 finds of the true 10 nearest.

    As the engine does it: numbers between two quantiles to LEVELS steps, the same for all dimensions, and
    OVERSAMPLING candidates per product wanted where they are rescored.
    """
    full = queries @ products.T
    low, high = np.quantile(products, [(1 - QUANTILE) / 2, (1 + QUANTILE) / 2])
    coarse = _to_steps(queries, low, high) @ _to_steps(products, low, high).T
    recall, rescored = _compare_scores(coarse, full, math.ceil(OVERSAMPLING * TOP))
    return CodeLoss(recall, rescored, float(np.abs(coarse - full).mean()) if full.size else 0.0)


def _to_steps(vectors: Vectors, low: float, high: float) -> Vectors:
    step = max(high - low, 1e-9) / LEVELS
    return np.asarray(np.clip(np.round((vectors - low) / step), 0, LEVELS) * step + low, np.float32)


def _compare_scores(rough: Vectors, full: Vectors, candidates: int) -> tuple[float, float]:
    """Return mean recall@10 of the order by `rough`, and of its best `candidates` in the order of `full`."""
    by_rough = np.take_along_axis(full, _find_best(rough, candidates), axis=1).astype(np.float64)
    exact = np.take_along_axis(full, _find_best(full, TOP), axis=1).astype(np.float64)
    rescored = -np.sort(-by_rough, axis=1)
    pairs = [zip(found, exact, strict=True) for found in (by_rough, rescored)]
    first, second = (float(np.mean([recall_of(one, other) for one, other in pair] or [1.0])) for pair in pairs)
    return first, second


def _find_best(scores: Vectors, count: int) -> npt.NDArray[np.int64]:
    """Return the places of the highest `count` scores of each row, highest first, or of all where there are fewer."""
    count = min(count, scores.shape[1])
    places = np.argpartition(-scores, max(count - 1, 0), axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def measure_shift(
    queries: Vectors,
    best: Floats,
    moments: Moments,
    count: int,
    *,
    usual: Floats | None = None,
    known: Vectors | None = None,
) -> Shift:
    """Return how many queries lie where the model knows neither products nor questions.

    `best` is each query's highest cosine among all `count` products, whose `moments` give its mean and
    deviation; chance alone lifts the best of N to about sqrt(2 ln N) deviations. `usual` are the highest cosines
    of queries made from the catalogue, of which all but UNUSUAL are above the limit. `known` are vectors of
    queries learned from: those at a cosine of NEAR or more are near.
    """
    by_chance = math.sqrt(2 * math.log(max(count, 2)))
    means, deviations = np.array([moments.of_query(query) for query in queries]).reshape(-1, 2).T
    limit = float(np.quantile(usual, UNUSUAL)) if usual is not None and len(usual) else None
    is_far = np.zeros(len(best), bool) if limit is None else best < limit
    order = np.argsort(best, kind="stable")
    return Shift(
        queries=len(queries),
        limit=limit,
        far_from_products=None if limit is None else _share(is_far),
        below_chance=_share(best - means < by_chance * deviations),
        far_from_known=None if known is None else _share((queries @ known.T).max(axis=1) < NEAR),
        farthest=tuple(order[is_far[order]].tolist()),
    )


def _share(marks: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(marks)) if len(marks) else 0.0


def found_share(queries: Vectors, products: Vectors, answers: Sequence[Sequence[int]], top: int = TOP) -> float:
    """Return the share of queries of whose answers, rows of `products`, one is among the nearest `top`."""
    scores = queries @ products.T
    best = np.array([scores[row, list(rows)].max() for row, rows in enumerate(answers)])
    return _share((scores > best[:, None] + EQUAL).sum(axis=1) < top) if len(best) else 0.0
