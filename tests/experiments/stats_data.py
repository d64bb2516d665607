"""Worked numbers that the statistics must reproduce."""

import json
from pathlib import Path
from typing import Any, TypeVar

from experiments.stats.sums import NotMeasurable

WORKED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "experiment_stats.json").read_text(encoding="utf-8")
)
EXACT = 1e-6  # relative
Measured = TypeVar("Measured")


def expect(found: Measured | NotMeasurable) -> Measured:
    assert not isinstance(found, NotMeasurable), found
    return found
