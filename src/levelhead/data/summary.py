"""Moments and range that merge, of what is read piece by piece.

Without torch and NumPy, which take longer to import than a file to be read; where arrays are read, these are arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import polars as pl


@dataclass(slots=True)
class Summary:
    """Statistics of a feature, as numbers, or of several, as arrays; they merge as ``levelhead.Moments`` do.

    Args:
        origin: a number among the values; the mean is counted from it, which a large mean then costs no digits.
        count: how many values are known and finite.
        mean: their mean, less the origin; 0 where there is none.
        m2: the sum of their squared deviations from the mean.
        low: the least of them; ``high`` the greatest.
        missing: how many are empty, or NaN.
        infinite: how many are infinite.
    """

    origin: Any = 0
    count: Any = 0
    mean: Any = 0.0
    m2: Any = 0.0
    low: Any = math.inf
    high: Any = -math.inf
    missing: Any = 0
    infinite: Any = 0

    @classmethod
    def of_column(cls, column: pl.Series) -> Self:
        """Of float64 values, null or NaN where one is missing."""
        size, missing, infinite = len(column), column.null_count(), 0
        if not math.isfinite(total := float(column.sum())):
            missing += int(column.is_nan().sum())
            column = column.filter(column.is_finite())
            infinite, total = size - missing - len(column), float(column.sum())
        count = len(column) - column.null_count()
        low: Any = column.min()
        high: Any = column.max()
        if not count:
            return cls(missing=missing, infinite=infinite)
        origin = low if low == high else total / count if math.isfinite(total) else float((column / count).sum())
        deviations = column - origin
        rest = float(deviations.sum()) / count  # the rounding of the mean
        squares: Any = deviations.dot(deviations)
        return cls(origin, count, rest, squares - rest * rest * count, low, high, missing, infinite)

    def merge(self, other: Summary) -> Summary:
        """Both together, by Chan's formula as ``Moments`` has it; from the origin of the first that knows a value."""
        count = self.count + other.count
        origin = self.origin + (other.origin - self.origin) * (self.count == 0)
        delta = other.origin - origin + other.mean - self.mean
        share = other.count / (count + (count == 0))
        return Summary(
            origin,
            count,
            self.mean + delta * share,
            self.m2 + other.m2 + delta * delta * self.count * share,
            min(self.low, other.low) if isinstance(other.low, float) else other.low.clip(max=self.low),
            max(self.high, other.high) if isinstance(other.high, float) else other.high.clip(min=self.high),
            self.missing + other.missing,
            self.infinite + other.infinite,
        )
