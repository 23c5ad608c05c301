"""Moments and range of what is read block by block, in NumPy: torch takes longer to import than a file to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # it takes a fifth of NumPy's own time
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: The integers up to here are float64 values, all of them.
EXACT = 2**53


class Accumulator:
    """Streaming statistics of numbers: moments, range, and how many are missing or infinite.

    All is counted from an origin among the first values, which a large mean then costs no digits, and each block about
    its own mean; blocks merge as ``levelhead.Moments`` do.

    Args:
        features: how many features a block has.
    """

    def __init__(self, features: int) -> None:
        self.count = np.zeros(features, np.int64)
        self.missing, self.infinite = self.count.copy(), self.count.copy()
        self.offset = np.zeros(features, object)  # whole numbers that were taken off before
        self._origin = np.full(features, np.nan)
        self._mean, self._m2 = np.zeros(features), np.zeros(features)
        self._low, self._high = np.full(features, np.inf), np.full(features, -np.inf)

    def add(self, block: NDArray[Any], at: slice = slice(None)) -> None:
        """Count a block of shape (rows, features) or (rows, features, ...) in, as the features ``at``.

        Float64 that can be written to is overwritten: the deviations take its place.
        """
        if not block.size:
            return
        values = np.moveaxis(block, 1, 0).reshape(block.shape[1], -1)
        if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            if not self.count[at].any():
                self.offset[at] = offsets(values[:, 0])
            values = less(values, self.offset[at][:, None])
        count: Any = values.shape[1]
        low, high = values.min(1), values.max(1)
        known: NDArray[np.bool_] | None = None
        if not (np.isfinite(low) & np.isfinite(high)).all():  # both are NaN where one value is
            known = np.isfinite(values)
            nan = np.isnan(values).sum(1)
            count = known.sum(1)
            self.missing[at] += nan
            self.infinite[at] += values.shape[1] - nan - count
            low, high = (f(values, 1, where=known, initial=i) for f, i in ((np.min, np.inf), (np.max, -np.inf)))
        self._low[at], self._high[at] = np.minimum(self._low[at], low), np.maximum(self._high[at], high)
        first = values[:, 0] if known is None else values[np.arange(len(values)), known.argmax(1)]
        new = np.isnan(self._origin[at]) & (np.asarray(count) > 0)
        self._origin[at] = np.where(new, first, self._origin[at])
        scratch = values if values.dtype == np.float64 and values.flags.writeable else None
        shifted = np.subtract(values, self._origin[at][:, None], out=scratch, dtype=np.float64)
        if known is not None:
            shifted[~known] = 0
        mean = shifted.sum(1) / np.maximum(count, 1)
        shifted -= mean[:, None]
        if known is not None:
            shifted[~known] = 0
        rest = shifted.sum(1) / np.maximum(count, 1)  # the rounding of the mean
        m2 = np.einsum("fr,fr->f", shifted, shifted) - rest * rest * count
        self._merge(count, mean + rest, m2, at)

    def add_counts(self, values: Floats, counts: NDArray[np.int64], at: int) -> None:
        """Count each of some values in, as often as ``counts`` says, as one feature."""
        if not counts.any():
            return
        values, counts = values[counts > 0], counts[counts > 0]
        self._origin[at] = 0 if np.isnan(self._origin[at]) else self._origin[at]
        shifted, total = values - self._origin[at], counts.sum()
        mean = (counts * shifted).sum() / total
        self._low[at], self._high[at] = min(self._low[at], values[0]), max(self._high[at], values[-1])
        self._merge(total, mean, (counts * (shifted - mean) ** 2).sum(), slice(at, at + 1))

    def absorb(self, other: Accumulator, feature: int, at: int) -> None:
        """Count a feature that another has seen in as the feature ``at``."""
        if other.count[feature]:
            self._origin[at] = other._origin[feature] if np.isnan(self._origin[at]) else self._origin[at]
            self._low[at], self._high[at] = (
                min(self._low[at], other._low[feature]),
                max(self._high[at], other._high[feature]),
            )
            mean = other._origin[feature] - self._origin[at] + other._mean[feature]
            self._merge(other.count[feature], mean, other._m2[feature], slice(at, at + 1))
        self.missing[at] += other.missing[feature]
        self.infinite[at] += other.infinite[feature]

    def _merge(self, count: Any, mean: Any, m2: Any, at: slice) -> None:
        """Chan's formula, as ``Moments.reduce`` has it, for two."""
        before, total = self.count[at], self.count[at] + count
        delta = mean - self._mean[at]
        share = count / np.maximum(total, 1)
        self._mean[at] += delta * share
        self._m2[at] += m2 + delta * delta * before * share
        self.count[at] = total

    def columns(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Mean, deviation (of the population), least and greatest of every feature; NaN where nothing is known."""
        with np.errstate(invalid="ignore"):
            std = np.sqrt(self._m2 / np.where(self.count, self.count, np.nan))
            values = (self._origin + self._mean, self._low, self._high)
            mean, low, high = (np.where(self.count, value, np.nan) + self.offset.astype(float) for value in values)
        return mean, std, low, high


def offsets(first: NDArray[Any]) -> NDArray[Any]:
    """What is to be taken off integers of 64 bits, for float64 to hold them: the first of each, if too large."""
    return np.where(np.abs(first.astype(float)) > EXACT, first, first.dtype.type(0)).astype(object)


def less(values: NDArray[Any], offset: NDArray[Any]) -> NDArray[Any]:
    """Integers of 64 bits less the offsets, as float64; exact where the differences are."""
    if not offset.any():
        return values
    low, high = int(values.min()), int(values.max())
    if max(high - int(offset.min()), int(offset.max()) - low) < 2**63:  # then the difference fits, wrapped or not
        taken = (offset % 2**64).astype(np.uint64)
        return (values.astype(np.uint64) - taken).view(np.int64).astype(np.float64)
    return values.astype(np.float64) - offset.astype(np.float64)
