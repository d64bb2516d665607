"""How vectors lie in their space: near what they should be, and spread over the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.engine.index import ProductIndex
from retrieval.engine.types import Vectors
from retrieval.evaluation.metrics import Floats

BLOCK = 1024  # rows compared at once: with 100,000 products 400 MB
DIRECTIONS = (1, 2, 5, 10)
LEAST_ROWS = 2  # for each dimension to whiten
FLOOR = 1e-6  # of the largest variance: directions below hold nothing but rounding


def measure_alignment(queries: Vectors, products: Vectors) -> float:
    """Return the mean squared distance of queries to products that answer them: row i of one to row i of the other.

    0 to 4 for unit vectors, lower is better. Wang and Isola 2020. Raises ValueError without pairs.
    """
    _check_rows(queries, 1)
    return float(np.mean(np.sum((queries.astype(np.float64) - products) ** 2, axis=1)))


def measure_uniformity(vectors: Vectors) -> float:
    """Return log of the mean of exp(-2 · squared distance) over all pairs of different rows, each of unit length.

    -8 to 0, lower is better: evenly on the sphere it nears -4. Wang and Isola 2020, t = 2.
    Raises ValueError for fewer than two rows.
    """
    _check_rows(vectors, 2)
    count = len(vectors)
    total = sum(float(np.exp(-2 * np.maximum(2 - 2 * block, 0)).sum()) for _, block in _cosine_blocks(vectors))
    itself = float(np.exp(-2 * np.maximum(2 - 2 * np.einsum("ij,ij->i", vectors, vectors), 0)).sum())
    return math.log(max((total - itself) / (count * (count - 1)), 1e-300))


@dataclass(frozen=True, slots=True)
class Anisotropy:
    """`mean_cosine` of random pairs; `variance_shares` of the first DIRECTIONS principal directions, 0 to 1 each.

    `effective_dims` is how many directions of equal variance would be as even: exp of the entropy of the
    shares. Roy and Vetterli 2007.
    """

    mean_cosine: float
    variance_shares: dict[int, float]
    effective_dims: float


def measure_anisotropy(vectors: Vectors) -> Anisotropy:
    """Return how unevenly unit vectors fill the space; raises ValueError for fewer than two."""
    _check_rows(vectors, 2)
    count, rows = len(vectors), vectors.astype(np.float64)
    mean_cosine = (float(np.sum(rows.sum(0) ** 2)) - float(np.sum(rows**2))) / (count * (count - 1))
    variances = np.maximum(np.linalg.eigvalsh(_covariance(rows))[::-1], 0)
    total = float(variances.sum())
    shares = variances / total if total > 0 else np.zeros(len(variances))
    positive = shares[shares > 0]
    return Anisotropy(
        mean_cosine=mean_cosine,
        variance_shares={number: float(shares[:number].sum()) for number in DIRECTIONS},
        effective_dims=float(np.exp(-np.sum(positive * np.log(positive)))) if len(positive) else 0.0,
    )


def sample_cosines(vectors: Vectors, pairs: int = 20_000, seed: int = 1) -> Floats:
    """Return the cosines of that many random pairs of different rows; raises ValueError for fewer than two rows."""
    _check_rows(vectors, 2)
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(vectors), pairs)
    second = (first + rng.integers(1, len(vectors), pairs)) % len(vectors)
    cosines: Floats = np.einsum("ij,ij->i", vectors[first], vectors[second]).astype(np.float64)
    return cosines


@dataclass(frozen=True, eq=False)
class Whitening:
    """Moves vectors to mean 0 and turns and scales them to equal variance in all directions kept.

    `mean` has shape (dim,), `matrix` (dim, directions kept). Su et al. 2021.
    """

    mean: Vectors
    matrix: Vectors

    def apply(self, vectors: Vectors) -> Vectors:
        """Return the vectors whitened and again of unit length, shape (rows, directions kept)."""
        moved = (vectors - self.mean) @ self.matrix
        return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), np.float32)

    def save(self, path: Path) -> None:
        """Write `mean` and `matrix` as .npz."""
        with path.open("wb") as file:
            np.savez(file, mean=self.mean, matrix=self.matrix)


def fit_whitening(vectors: Vectors, dims: int | None = None) -> Whitening:
    """Return the whitening of these vectors, of the `dims` directions of most variance, by default all that vary.

    Raises ValueError for fewer than LEAST_ROWS rows a dimension, which would fit their own noise, or where all
    rows are the same.
    """
    _check_rows(vectors, LEAST_ROWS * vectors.shape[1])
    rows = vectors.astype(np.float64)
    variances, directions = np.linalg.eigh(_covariance(rows))
    kept = np.flatnonzero(variances > max(FLOOR * variances[-1], 1e-12))[::-1][:dims]
    if not len(kept):
        raise ValueError("all vectors are the same: there is nothing to whiten")
    matrix = directions[:, kept] / np.sqrt(variances[kept])
    return Whitening(rows.mean(0).astype(np.float32), matrix.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Twins:
    """Pairs of products of nearly the same vector: at most as many as asked for, the most alike first.

    `count` is how many there are in all; `products` how many of the products asked about have such a twin.
    """

    pairs: tuple[tuple[int, int, float], ...]  # (product id, product id, cosine)
    count: int
    products: int


def find_near_duplicates(
    index: ProductIndex, vectors: Vectors, product_ids: Sequence[int], *, threshold: float = 0.97, limit: int = 50
) -> Twins:
    """Return which of these products have a twin in the whole index: the nearest other, of a cosine >= `threshold`."""
    found: dict[tuple[int, int], float] = {}
    products = 0
    for product_id, vector in zip(product_ids, vectors, strict=True):
        others = (hit for hit in index.search_dense(vector, limit=2) if hit[0] != product_id)
        other, cosine = next(others, (product_id, -1.0))
        if cosine >= threshold:
            products += 1
            found[min(product_id, other), max(product_id, other)] = min(cosine, 1.0)
    best = sorted(found.items(), key=lambda pair: -pair[1])[:limit]
    return Twins(tuple((one, other, cosine) for (one, other), cosine in best), len(found), products)


def _cosine_blocks(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Yield blocks of rows of the matrix of all dot products, each with the number of its first row."""
    for start in range(0, len(vectors), BLOCK):
        yield start, vectors[start : start + BLOCK] @ vectors.T


def _covariance(rows: Floats) -> Floats:
    return np.atleast_2d(np.asarray(np.cov(rows, rowvar=False, bias=True), np.float64))


def _check_rows(vectors: Vectors, least: int) -> None:
    if vectors.ndim != 2 or len(vectors) < least:
        raise ValueError(f"vectors of shape {vectors.shape}: expected at least {least} rows")
