"""Sample ratio mismatch: arms that did not get the visitors their weights promise measure different people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scipy import special

from experiments.stats.sums import NotMeasurable

ALARM = 0.001  # below this p-value; Kohavi, Tang and Xu 2020, "Trustworthy Online Controlled Experiments", ch. 21
PRIOR_VISITORS = 10_000  # a broken split is looked for within about a percentage point of the weights
LEAST_EXPECTED = 5  # visitors in an arm: below, the chi-square distribution does not hold. Cochran 1954


@dataclass(frozen=True, slots=True)
class RatioCheck:
    """Pearson's chi-square of visitors seen against `expected`, and whether to blank the experiment's results.

    `p_value`, and the alarm, are for one look: looked at every day for four weeks, one sound test in a hundred sets it
    off. `always_valid_p_value` is below ALARM at any look in one of a thousand at most; it takes a larger leak.
    """

    chi2: float
    p_value: float
    always_valid_p_value: float
    is_alarm: bool
    expected: tuple[float, ...]
    is_measurable: ClassVar[bool] = True


def check_sample_ratio(observed: Sequence[int], weights: Sequence[float]) -> RatioCheck | NotMeasurable:
    """Return whether the visitors of each arm fit its weight; weights need not sum to 1.

    Pearson 1900, len(observed) − 1 degrees of freedom. Not measurable while an arm expects fewer than LEAST_EXPECTED
    visitors. Raises ValueError for fewer than two arms, a weight not above 0 or a negative count.
    """
    _check_arms(observed, weights)
    total = sum(observed)
    expected = tuple(total * weight / math.fsum(weights) for weight in weights)
    if min(expected) < LEAST_EXPECTED:
        return NotMeasurable(
            f"an arm expects {min(expected):.3g} visitors so far, at least {LEAST_EXPECTED} are needed"
        )
    chi2 = math.fsum((seen - mean) ** 2 / mean for seen, mean in zip(observed, expected, strict=True))
    p_value = float(special.chdtrc(len(observed) - 1, chi2))
    return RatioCheck(chi2, p_value, _find_always_valid_p_value(observed, expected), p_value < ALARM, expected)


def _find_always_valid_p_value(observed: Sequence[int], expected: Sequence[float]) -> float:
    """Return 1 over the Bayes factor against the weights, a martingale while they hold; at most 1.

    Multinomial counts with a Dirichlet prior around the weights: Lindon and Malek 2022, "Anytime-Valid Inference for
    Multinomial Count Data".
    """
    total = sum(observed)
    log_factor = float(special.gammaln(PRIOR_VISITORS) - special.gammaln(PRIOR_VISITORS + total))
    for seen, mean in zip(observed, expected, strict=True):
        prior = PRIOR_VISITORS * mean / total
        log_factor += float(special.gammaln(prior + seen) - special.gammaln(prior)) - seen * math.log(mean / total)
    return math.exp(-max(log_factor, 0.0))


def _check_arms(observed: Sequence[int], weights: Sequence[float]) -> None:
    if len(observed) != len(weights) or len(observed) < 2:
        raise ValueError(
            f"{len(observed)} counts and {len(weights)} weights: expected one of each for two arms or more"
        )
    for count, weight in zip(observed, weights, strict=True):
        if not 0 < weight < math.inf:
            raise ValueError(f"weight {weight}: expected a number above 0; leave out arms that get no visitors")
        if not 0 <= count < math.inf:
            raise ValueError(f"count {count}: expected a number of visitors, 0 or more")
