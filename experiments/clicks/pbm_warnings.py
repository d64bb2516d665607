"""When a position-based model must not be believed: what its data cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from experiments.clicks.log import Cells, Floats, Ints

WIDEST = 3.0  # times that an examination's high end may exceed its low end
NAMED = 10  # positions in one sentence


def find_warnings(cells: Cells, low: Floats, high: Floats, has_converged: bool) -> tuple[str, ...]:
    """Return what a reader must know; `low` and `high` bound each position's examination."""
    return tuple(_warn(cells, low, high, has_converged))


def _warn(cells: Cells, low: Floats, high: Floats, has_converged: bool) -> Iterator[str]:
    unlinked = find_unlinked(cells)
    if unlinked.any():
        yield (
            f"{_name(cells.positions[unlinked])}: no clicked product was shown both here and at positions compared "
            f"with position {cells.positions[0]}, so place and product cannot be told apart and the prior decides; let "
            "rankings vary, for example by interleaving or by shuffling a few results"
        )
    unsure = ~unlinked & (high > WIDEST * low)
    if unsure.any():
        yield (
            f"{_name(cells.positions[unsure])}: too few clicks on products shown at other positions, too, to know the "
            f"examination within a factor of {WIDEST:g}; collect more searches or let rankings vary more"
        )
    if not has_converged:
        yield "the fit stopped before it converged: allow more iterations"


def find_unlinked(cells: Cells) -> npt.NDArray[np.bool_]:
    """Return which positions no chain of clicked pairs, each shown at two positions or more, links to the first.

    Examinations are known only relative to each other, and two only from a pair that was shown at both: Agarwal et al.
    2019, "Estimating position bias without intrusive interventions".
    """
    clicked = (cells.per_pair(cells.clicks) > 0)[cells.pair]
    count = len(cells.positions)
    ends = cells.place[clicked], count + cells.pair[clicked]
    nodes = count + len(cells.query)
    graph = csr_array((np.ones(len(ends[0])), ends), shape=(nodes, nodes))
    _, group = connected_components(graph, directed=False)
    unlinked: npt.NDArray[np.bool_] = group[:count] != group[0]
    return unlinked


def _name(positions: Ints) -> str:
    names = ", ".join(str(position) for position in positions[:NAMED])
    more = f" and {len(positions) - NAMED} more" if len(positions) > NAMED else ""
    return f"position{'s' if len(positions) > 1 else ''} {names}{more}"
