"""What a metric needs to know of an arm's visitors: sums over them, from which everything else follows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-10  # of the mean square: a variance below it is what rounding leaves of values that are all the same


@dataclass(frozen=True, slots=True)
class NotMeasurable:
    """No figure yet. `reason` ends the sentence 'not yet measurable because …'."""

    reason: str
    is_measurable: ClassVar[bool] = False
    PREFIX: ClassVar[str] = "not yet measurable because "

    def __str__(self) -> str:
        return f"{self.PREFIX}{self.reason}"


@dataclass(frozen=True, slots=True)
class Arm:
    """A metric in one arm: its `value`, and the variance of what a single visitor adds to it, 0 if all are alike."""

    n: int
    value: float
    variance: float
    df: float  # degrees of freedom of the variance, infinite where the normal distribution is used


class Statistic(Protocol):
    """Sums over the visitors of an arm."""

    @property
    def n(self) -> int: ...

    def __add__(self, other: Self) -> Self: ...

    def measure(self) -> Arm | NotMeasurable: ...


AnyStatistic = TypeVar("AnyStatistic", bound=Statistic)


@dataclass(frozen=True, slots=True)
class MeanStatistic:
    """A metric averaged over visitors, such as revenue per visitor: `n` visitors, sums of their values and squares.

    `a + b` merges different visitors. A visitor of two days is one visitor: add up what they did before making sums,
    or the interval is too narrow. Raises ValueError for sums that no values have.
    """

    n: int
    sum_y: float
    sum_yy: float

    def __post_init__(self) -> None:
        _check_finite(self.n, self.sum_y, self.sum_yy)
        check_moments(self.n, self.sum_y, self.sum_yy)

    @classmethod
    def from_values(cls, y: npt.ArrayLike) -> Self:
        """Return the sums of one value per visitor; raises ValueError if a value is no number."""
        [values] = check_columns(y=y)
        return cls(len(values), float(values.sum()), float(values @ values))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.n + other.n, self.sum_y + other.sum_y, self.sum_yy + other.sum_yy)

    def measure(self) -> Arm | NotMeasurable:
        """Return the mean and the sample variance; not measurable below 2 visitors."""
        if self.n < 2:
            return NotMeasurable(f"only {self.n} visitors were seen, at least 2 are needed")
        variance = covary(self.n, self.sum_y, self.sum_y, self.sum_yy)
        return Arm(self.n, self.sum_y / self.n, drop_rounding(variance, self.sum_yy / self.n), self.n - 1)


@dataclass(frozen=True, slots=True)
class RatioStatistic:
    """A metric that divides two sums, such as clicks by impressions: y over d, each summed per visitor.

    `a + b` merges different visitors, as for MeanStatistic. Raises ValueError for sums that no values have.
    """

    n: int
    sum_y: float
    sum_d: float
    sum_yy: float
    sum_dd: float
    sum_yd: float

    def __post_init__(self) -> None:
        _check_finite(self.n, self.sum_y, self.sum_d, self.sum_yy, self.sum_dd, self.sum_yd)
        check_moments(self.n, self.sum_y, self.sum_yy)
        check_moments(self.n, self.sum_d, self.sum_dd)
        check_product(self.sum_yd, self.sum_yy, self.sum_dd)

    @classmethod
    def from_values(cls, y: npt.ArrayLike, d: npt.ArrayLike) -> Self:
        """Return the sums of two values per visitor; raises ValueError if one is no number or lengths differ."""
        ys, ds = check_columns(y=y, d=d)
        sums = (ys.sum(), ds.sum(), ys @ ys, ds @ ds, ys @ ds)
        return cls(len(ys), *(float(each) for each in sums))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.n + other.n,
            self.sum_y + other.sum_y,
            self.sum_d + other.sum_d,
            self.sum_yy + other.sum_yy,
            self.sum_dd + other.sum_dd,
            self.sum_yd + other.sum_yd,
        )

    def measure(self) -> Arm | NotMeasurable:
        """Return the ratio of sums, and the sample variance of (y − ratio · d) / mean d over visitors.

        The delta method, Deng, Knoblich and Lu 2018, "Applying the Delta Method in Metric Analytics". Not measurable
        below 2 visitors or where d sums to 0 or less.
        """
        if self.n < 2:
            return NotMeasurable(f"only {self.n} visitors were seen, at least 2 are needed")
        if self.sum_d <= 0:
            return NotMeasurable(f"the denominator sums to {self.sum_d:g} over {self.n} visitors")
        ratio = self.sum_y / self.sum_d
        spread = (
            covary(self.n, self.sum_y, self.sum_y, self.sum_yy)
            - 2 * ratio * covary(self.n, self.sum_y, self.sum_d, self.sum_yd)
            + ratio**2 * covary(self.n, self.sum_d, self.sum_d, self.sum_dd)
        )
        spread = drop_rounding(spread, (self.sum_yy + ratio**2 * self.sum_dd) / self.n)
        return Arm(self.n, ratio, spread / (self.sum_d / self.n) ** 2, math.inf)


def covary(n: int, sum_y: float, sum_x: float, sum_yx: float) -> float:
    """Return the sample covariance, divided by n − 1."""
    return (sum_yx - sum_y * sum_x / n) / (n - 1)


def drop_rounding(variance: float, mean_square: float) -> float:
    """Return the variance, 0 where it is no more than rounding."""
    return variance if variance > ROUNDING * mean_square else 0.0


def check_columns(**columns: npt.ArrayLike) -> list[Floats]:
    """Return arrays of shape (visitors,); raises ValueError for another shape, different lengths or no numbers."""
    arrays = [np.asarray(values, np.float64) for values in columns.values()]
    for name, values in zip(columns, arrays, strict=True):
        if values.ndim != 1:
            raise ValueError(f"{name} has shape {values.shape}: expected one value per visitor")
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{name}[{at}] is {values[at]}: expected a number, 0 for a visitor who did nothing")
    if len({len(values) for values in arrays}) > 1:
        lengths = ", ".join(f"{name}: {len(values)}" for name, values in zip(columns, arrays, strict=True))
        raise ValueError(f"different numbers of visitors ({lengths}): give every visitor a value of each")
    return arrays


def check_moments(n: int, total: float, squares: float) -> None:
    """Raise ValueError where no `n` values have this sum and sum of squares (Cauchy and Schwarz: sum² <= n squares)."""
    if n < 0 or n != int(n):
        raise ValueError(f"n={n}: expected a number of visitors, 0 or more")
    if squares < 0 or total**2 > n * squares * (1 + 1e-9):
        raise ValueError(f"no {n} values have the sum {total:g} and the sum of squares {squares:g}: sum both anew")


def check_product(product: float, squares_y: float, squares_x: float) -> None:
    """Raise ValueError where no values have this sum of products (Cauchy and Schwarz: product² <= yy · xx)."""
    if product**2 > squares_y * squares_x * (1 + 1e-9):
        told = f"the sum of products {product:g} and sums of squares {squares_y:g} and {squares_x:g}"
        raise ValueError(f"no values have {told}: sum all three anew")


def _check_finite(*numbers: float) -> None:
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"sums {numbers}: expected finite numbers")
