"""What this machine's processor can do."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


def has_bf16() -> bool:
    """Return whether the processor computes in bf16 itself. OpenVINO also offers to emulate it, which is slow."""
    return "avx512_bf16" in _read_flags()


def has_vnni() -> bool:
    """Return whether the processor has instructions for products of int8, without which int8 gains no time."""
    return not _read_flags().isdisjoint(("avx512_vnni", "avx_vnni", "amx_int8"))


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _read_flags() -> frozenset[str]:
    try:
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return frozenset()
