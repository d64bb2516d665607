"""Is a broken split found, and a sound one left alone?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.report import Claim
from bench.statistics_claims import Flags, percent
from experiments.stats.ratio_mismatch import ALARM, RatioCheck, check_sample_ratio

Counts = npt.NDArray[np.int64]
DAYS = 28


def measure_sample_ratio(rng: np.random.Generator, tests: int) -> Iterator[Claim]:
    """Yield how often the alarm goes off with 100,000 visitors, for what 'a leak of 1 %' may mean."""
    total, half = 100_000, rng.binomial(100_000, 0.5, tests)
    moved = rng.binomial(total, 0.49, tests)
    yield Claim("SRM, nothing leaks, false alarms", percent(find_alarms(half, total - half)), "%", "<= 0.2")
    alarms = find_alarms(moved, total - moved)
    yield Claim("SRM, 1 % of all visitors land in the wrong arm (51/49), found", percent(alarms), "%", ">= 99")
    for lost, told in (
        (0.02, "1 % of all visitors are lost, all from one arm"),
        (0.01, "one arm loses 1 % of its own"),
    ):
        alarms = find_alarms(rng.binomial(half, 1 - lost), total - half)
        yield Claim(f"SRM, {told}, found", percent(alarms), "%")
    # Missing 1 % of one arm shifts the split by about a quarter of 1 %: z² = N · 0.01² / 4 must reach (3.29 + 0.84)².
    enough = round(4 * (3.2905 + 0.8416) ** 2 / 0.01**2)
    half = rng.binomial(enough, 0.5, tests)
    alarms = find_alarms(rng.binomial(half, 0.99), enough - half)
    yield Claim(f"SRM, one arm loses 1 % of its own of {enough:,} visitors, found", percent(alarms), "%")
    yield from measure_daily_ratio(rng, tests // 4, total // DAYS)


def measure_daily_ratio(rng: np.random.Generator, tests: int, visitors: int) -> Iterator[Claim]:
    """Yield how often a sound split alarms at any daily look, and whether the always-valid p-value finds a leak."""
    for share, told in ((0.5, "nothing leaks, an alarm"), (0.49, "51/49, found")):
        first = rng.binomial(visitors, share, (tests, DAYS)).cumsum(1).ravel()
        second = np.tile(np.arange(1, DAYS + 1) * visitors, tests) - first
        for name, flags in (("chi-square", find_alarms(first, second)), ("always-valid", find_leaks(first, second))):
            bar = "<= 0.2" if name == "always-valid" and share == 0.5 else ""
            yield Claim(
                f"SRM, {told} at any of {DAYS} daily looks, {name}",
                percent(flags.reshape(tests, DAYS).any(1)),
                "%",
                bar,
            )


def find_alarms(first: Counts, second: Counts) -> Flags:
    return np.array([check.is_alarm for check in check_ratios(first, second)])


def find_leaks(first: Counts, second: Counts) -> Flags:
    return np.array([check.always_valid_p_value < ALARM for check in check_ratios(first, second)])


def check_ratios(first: Counts, second: Counts) -> Iterator[RatioCheck]:
    for pair in zip(first.tolist(), second.tolist(), strict=True):
        check = check_sample_ratio(pair, (1, 1))
        assert isinstance(check, RatioCheck), check
        yield check
