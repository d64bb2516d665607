"""A metric and, of the same visitors, a covariate: what they did before the experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy.typing as npt

from experiments.stats.sums import MeanStatistic, RatioStatistic, check_columns, check_product, covary


@dataclass(frozen=True, slots=True)
class CupedMeanStatistic:
    """A mean y with a covariate x of the same visitors, 0 for those who were not there before.

    `a + b` merges different visitors. Raises ValueError for sums that no values have.
    """

    metric: MeanStatistic
    covariate: MeanStatistic
    sum_yx: float

    def __post_init__(self) -> None:
        _check_same_visitors(self.metric.n, self.covariate.n)
        check_product(self.sum_yx, self.metric.sum_yy, self.covariate.sum_yy)

    @classmethod
    def from_values(cls, y: npt.ArrayLike, x: npt.ArrayLike) -> Self:
        """Return the sums of two values per visitor; raises ValueError if one is no number or lengths differ."""
        ys, xs = check_columns(y=y, x=x)
        return cls(MeanStatistic.from_values(ys), MeanStatistic.from_values(xs), float(ys @ xs))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.metric + other.metric, self.covariate + other.covariate, self.sum_yx + other.sum_yx)

    def covary(self) -> float:
        """Return the sample covariance of y and x."""
        return covary(self.metric.n, self.metric.sum_y, self.covariate.sum_y, self.sum_yx)


@dataclass(frozen=True, slots=True)
class CupedRatioStatistic:
    """A ratio y / d with a ratio x / e from before of the same visitors, x = e = 0 for those who were not there.

    The covariate's sums are those of RatioStatistic.from_values(x, e). `a + b` merges different visitors. Raises
    ValueError for sums that no values have.
    """

    metric: RatioStatistic
    covariate: RatioStatistic
    sum_yx: float
    sum_ye: float
    sum_dx: float
    sum_de: float

    def __post_init__(self) -> None:
        _check_same_visitors(self.metric.n, self.covariate.n)
        check_product(self.sum_yx, self.metric.sum_yy, self.covariate.sum_yy)
        check_product(self.sum_ye, self.metric.sum_yy, self.covariate.sum_dd)
        check_product(self.sum_dx, self.metric.sum_dd, self.covariate.sum_yy)
        check_product(self.sum_de, self.metric.sum_dd, self.covariate.sum_dd)

    @classmethod
    def from_values(
        cls,
        y: npt.ArrayLike,
        d: npt.ArrayLike,
        x: npt.ArrayLike,
        e: npt.ArrayLike,
    ) -> Self:
        """Return the sums of four values per visitor; raises ValueError if one is no number or lengths differ."""
        ys, ds, xs, es = check_columns(y=y, d=d, x=x, e=e)
        products = (float(ys @ xs), float(ys @ es), float(ds @ xs), float(ds @ es))
        return cls(RatioStatistic.from_values(ys, ds), RatioStatistic.from_values(xs, es), *products)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.metric + other.metric,
            self.covariate + other.covariate,
            self.sum_yx + other.sum_yx,
            self.sum_ye + other.sum_ye,
            self.sum_dx + other.sum_dx,
            self.sum_de + other.sum_de,
        )

    def covary(self) -> float:
        """Return the sample covariance of both linearised ratios, (y − r d) / mean d and (x − q e) / mean e."""
        now, before, n = self.metric, self.covariate, self.metric.n
        r, q = now.sum_y / now.sum_d, before.sum_y / before.sum_d
        spread = (
            covary(n, now.sum_y, before.sum_y, self.sum_yx)
            - q * covary(n, now.sum_y, before.sum_d, self.sum_ye)
            - r * covary(n, now.sum_d, before.sum_y, self.sum_dx)
            + r * q * covary(n, now.sum_d, before.sum_d, self.sum_de)
        )
        return spread * n**2 / (now.sum_d * before.sum_d)


def _check_same_visitors(n: int, n_before: int) -> None:
    if n != n_before:
        raise ValueError(
            f"{n} visitors, but {n_before} in the covariate: sum both over the same visitors, 0 for new ones"
        )
