"""Shares of simulated tests as claims."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.report import Claim

Flags = npt.NDArray[np.bool_]


def claim_near(name: str, flags: npt.ArrayLike, target: float, within: float = 1.0) -> Iterator[Claim]:
    """Yield the share of flags, and how far it is off its target in percentage points."""
    value = percent(flags)
    yield Claim(name, value, "%")
    yield Claim(f"{name}, off {target:g} % by", abs(value - target), "points", f"<= {within:g}")


def percent(flags: npt.ArrayLike) -> float:
    return 100 * float(np.mean(np.asarray(flags)))
