"""Clicks over expected clicks: how much more a product is clicked than others at the same positions."""

from __future__ import annotations

import numpy as np

from experiments.clicks.log import Cells, PositionCurve
from experiments.clicks.relevance import Relevance, divide_clicks


def measure_position_ctr(cells: Cells) -> PositionCurve:
    """Return clicks per impression at each position, over all queries."""
    return PositionCurve(cells.positions, cells.per_position(cells.clicks) / cells.per_position(cells.impressions))


def estimate_coec(cells: Cells, position_ctr: PositionCurve | None = None) -> Relevance:
    """Return clicks / expected clicks: 1 is as usual for the positions, 2 twice as many; 0 and more.

    Expected are impressions times the CTR of their position, the log's own unless one is given. Zhang and Jones 2007,
    "Comparing click logs and editorial labels for training query rewriting"; Chapelle and Zhang 2009.
    A ranking that puts better products first makes its first positions' CTR high for more than their place, so that
    COEC corrects too much: good products are then judged less good than they are. The interval takes the expected
    clicks as known (Garwood 1936). Products of which no click was expected get nan, 0 to infinity.
    Raises ValueError for a log or curve without clicks.
    """
    curve = measure_position_ctr(cells) if position_ctr is None else position_ctr
    ctr = curve.at(cells.positions)[cells.place]
    highest = float(curve.values.max())
    if highest == 0:
        raise ValueError("no clicks at any position: COEC divides by expected clicks; wait until shoppers clicked")
    expected = cells.per_pair(cells.impressions * ctr)
    return divide_clicks(cells, np.ones(len(ctr)), expected, ctr / highest)
