"""Mean and spread of all product vectors, from which any query's similarity to the catalogue follows exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.engine.types import Vectors

FILE_NAME = "moments.npz"


@dataclass(frozen=True)
class Moments:
    """`mean` has shape (dim,), `covariance` (dim, dim)."""

    mean: Vectors
    covariance: Vectors

    def of_query(self, vector: Vectors) -> tuple[float, float]:
        """Return mean and standard deviation of the query's dot product with all products."""
        return float(self.mean @ vector), float(max(float(vector @ self.covariance @ vector), 0.0) ** 0.5)

    def save(self, folder: Path) -> None:
        np.savez(folder / FILE_NAME, mean=self.mean, covariance=self.covariance)

    @classmethod
    def load(cls, folder: Path) -> Moments:
        with (folder / FILE_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(arrays["mean"], arrays["covariance"])


class MomentsBuilder:
    """Adds up vectors batch by batch. No vectors give zero mean and no spread."""

    def __init__(self, dim: int) -> None:
        self._count, self._sum, self._products = 0, np.zeros(dim), np.zeros((dim, dim))

    def add(self, vectors: Vectors) -> None:
        rows = vectors.astype(np.float64)
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._products += rows.T @ rows

    def build(self) -> Moments:
        count = max(self._count, 1)
        mean = self._sum / count
        covariance = self._products / count - np.outer(mean, mean)
        return Moments(mean.astype(np.float32), covariance.astype(np.float32))
