"""How sure a fitted position-based model can be: intervals from the curvature of its objective at the maximum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import betaincinv, expit, logit

from experiments.clicks.log import Cells, Floats
from experiments.clicks.relevance import TAIL

DEVIATIONS = 1.959964  # of a 95 % interval

Bounds = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """Minus the second derivatives of the log posterior, by attractiveness, examination and both.

    Shapes (pairs,), (free,) and (free, pairs): every position but the first is free.
    """

    pairs: Floats
    free: Floats
    mixed: csr_array


def measure_curvature(
    cells: Cells, attractiveness: Floats, examination: Floats, priors: tuple[Floats, Floats]
) -> Curvature:
    """Return the curvature; `priors` is what the priors add to that of each pair and each free position."""
    attracts, examined = attractiveness[cells.pair], examination[cells.place]
    skipped = (cells.impressions - cells.clicks) / (1 - examined * attracts) ** 2
    pairs = cells.per_pair(cells.clicks / attracts**2 + skipped * examined**2) + priors[0]
    free = cells.per_position(cells.clicks / examined**2 + skipped * attracts**2)[1:] + priors[1]
    shape = len(cells.positions), len(cells.query)
    return Curvature(pairs, free, csr_array((skipped, (cells.place, cells.pair)), shape=shape)[1:])


def measure_variances(curvature: Curvature) -> tuple[Floats, Floats]:
    """Return the variance of each pair's attractiveness and of each free position's examination.

    Both are joint: each allows for what the other leaves open. The inverse of the whole matrix, by the Schur
    complement of its diagonal block of pairs. Where it is not positive the variance is infinite.
    """
    linked = curvature.mixed.multiply(1 / curvature.pairs).tocsr()
    covariance = np.linalg.inv(np.diag(curvature.free) - (linked @ curvature.mixed.T).toarray())
    shared = linked.T.tocsr()
    spread = shared.multiply(shared @ covariance).sum(axis=1)
    examination = np.diag(covariance)
    return 1 / curvature.pairs + np.maximum(spread, 0), np.where(examination > 0, examination, np.inf)


def bound_attractiveness(attractiveness: Floats, variance: Floats, clicks: Floats) -> Bounds:
    """Return the ends of 95 % credible intervals, shape (pairs,).

    Those of the Beta distribution with the posterior's mode and its curvature there: exact for a pair shown at the
    first position only. Without clicks the low end is 0: Brown, Cai and DasGupta 2001.
    """
    size = attractiveness * (1 - attractiveness) / variance
    shape = 1 + size * attractiveness, 1 + size * (1 - attractiveness)
    low, high = betaincinv(*shape, TAIL), betaincinv(*shape, 1 - TAIL)
    return np.where(clicks > 0, np.minimum(low, attractiveness), 0), np.maximum(high, attractiveness)


def bound_examination(examination: Floats, variance: Floats) -> Bounds:
    """Return the ends of 95 % intervals, normal in the logit, shape (positions,); the first is 1 by definition."""
    free = examination[1:]
    width = DEVIATIONS * np.sqrt(variance) / (free * (1 - free))
    low, high = (expit(logit(free) + side * width) for side in (-1, 1))
    return np.concatenate([[1.0], low]), np.concatenate([[1.0], high])
