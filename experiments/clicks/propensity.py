"""Inverse-propensity weighting: clicks at positions that few shoppers look at count for more."""

from __future__ import annotations

import numpy as np

from experiments.clicks.log import Cells, PositionCurve
from experiments.clicks.relevance import Relevance, divide_clicks

SMALLEST = 0.05  # of examinations, unless another is given: no click counts for more than 20


def estimate_ipw(
    cells: Cells, examination: PositionCurve, *, smallest: float = SMALLEST, is_normalised: bool = True
) -> Relevance:
    """Return each product's probability of a click once examined; estimates may exceed 1.

    A click weighs 1 / max(examination, smallest): Joachims, Swaminathan and Schnabel 2017, "Unbiased
    learning-to-rank with biased feedback". The weighted clicks are divided by
    the impressions, or if `is_normalised` by the weighted examinations expected of them: what clipping took from the
    clicks it then takes from the divisor, too, and the estimate stays unbiased (self-normalised after Swaminathan and
    Joachims 2015, with the expectation of the weights' sum, since who examined is not seen). So `smallest` = 0 is plain
    weighting, 1 clicks over expected examinations; the larger it is, the less an estimate varies.
    The interval takes examinations as known; its width follows the weights (Fay and Feuer 1997).
    Raises ValueError for `smallest` outside 0 to 1, and if 0, where no shopper examines a position of the log.
    """
    if not 0 <= smallest <= 1:
        raise ValueError(f"smallest examination {smallest}, expected 0 (no clipping) to 1")
    seen = examination.at(cells.positions)[cells.place]
    if smallest == 0 and seen.min() == 0:
        place = cells.positions[cells.place[seen.argmin()]]
        raise ValueError(f"examination 0 at position {place} gives clicks infinite weight: set smallest above 0")
    weights = 1 / np.maximum(seen, smallest)
    divisor = cells.per_pair(cells.impressions * (seen * weights if is_normalised else 1))
    return divide_clicks(cells, weights, divisor, seen)
