"""Latencies of any number of searches in few numbers: how many fell on each step of a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SLOW_SHARE = 0.05  # of searches, which are slower than their p95
LEAST_SLOW_MS = 100.0  # feels instantaneous below it: Miller 1968, Nielsen 1993
FIRST_SEARCHES = 500  # of the champion, from which it is known what is slow
STEP = 1.1  # each step is that much longer than the one before: a percentile is within 5 % of the exact one
LEAST_MS, MOST_MS = 0.1, 1e9  # a longer one, infinity too, counts as that long


def find_step(latency_ms: float) -> int:
    """Return the step that a latency falls on."""
    return math.floor(math.log(min(max(LEAST_MS, latency_ms), MOST_MS), STEP))


def find_percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the latency, in ms, that `share` of the counted searches stay below; None where none were counted."""
    wanted, seen = share * sum(counts.values()), 0
    for step in sorted(counts):
        seen += counts[step]
        if seen >= wanted and counts[step]:
            return float(STEP ** (step + 0.5))
    return None


def find_slow_ms(latencies_ms: Sequence[float]) -> float | None:
    """Return beyond which latency a search is slow: the champion's p95 in its first searches, LEAST_SLOW_MS at least.

    None while there are too few of them. Nearest rank.
    """
    if len(latencies_ms) < FIRST_SEARCHES:
        return None
    first = sorted(latencies_ms[:FIRST_SEARCHES])
    return max(first[math.ceil((1 - SLOW_SHARE) * FIRST_SEARCHES) - 1], LEAST_SLOW_MS)
