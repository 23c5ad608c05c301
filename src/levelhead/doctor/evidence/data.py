"""Measures the batches of a loader: moments, labels, order, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from levelhead.doctor.program import ProgramError, split
from levelhead.moments import Moments

#: Rows that are kept for fits and comparisons.
ROWS = 4096


def moments_of(mean: float, std: float) -> Moments:
    """The moments of a population with this mean and deviation."""
    return Moments(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, mean, std**2)))


@dataclass
class Columns:
    """The moments of one tensor of the batches, a column (last dimension, or channel) at a time.

    Args:
        shape: of one row.
        columns: moments of each column.
        whole: moments of all values together.
        low: the least value; high: the largest.
        bad: how many values are NaN or infinite.
    """

    shape: tuple[int, ...]
    columns: Moments
    whole: Moments
    low: float
    high: float
    bad: int

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return float(self.whole.mean)

    @property
    def std(self) -> float:
        """Standard deviation of all values."""
        return float(self.whole.std())

    @property
    def rms(self) -> float:
        """Root mean square of all values."""
        return math.hypot(self.mean, self.std)

    @property
    def spread(self) -> float:
        """How far apart the scales of the columns are: largest deviation by the median of those that vary."""
        stds = self.columns.std().flatten()
        stds = stds[stds > 0]
        return float(stds.max() / stds.median()) if stds.numel() else 1.0


@dataclass
class Data:
    """What one loader yields.

    Args:
        rows: how many rows were seen.
        batches: how many batches one pass has, where it is known.
        sizes: rows of each batch seen.
        inputs: columns of the inputs, where they are one tensor of floating point numbers.
        targets: columns of the targets, where they are floating point numbers.
        counts: how often each label occurs, where targets are whole numbers.
        batch_labels: mean of the targets in each batch, in order.
        target_std: their deviation over all rows.
        kept: the first rows, inputs and targets.
        fixed_order: whether two passes give the same first batch.
    """

    rows: int = 0
    batches: int = 0
    sizes: list[int] = field(default_factory=list)
    inputs: Columns | None = None
    targets: Columns | None = None
    counts: dict[int, int] = field(default_factory=dict)
    batch_means: list[float] = field(default_factory=list)
    target_std: float = math.nan
    kept: tuple[Any, Any] | None = None
    fixed_order: bool = False


def measure(loader: Iterable[Any], pairs: bool = True, limit: int = 200_000) -> Data:
    """Read a pass over the loader, up to ``limit`` rows; ``pairs``: whether a batch must be inputs and targets.

    Raises:
        ProgramError: the loader is empty, or a batch is not a pair.
    """
    found = Data()
    inputs, targets = _Collector(), _Collector()
    kept: list[tuple[Tensor, Tensor]] = []
    means: list[tuple[float, float, int]] = []
    for batch in loader:
        x, y = split(batch) if pairs or _is_pair(batch) else (batch, None)
        size = _size(x)
        found.rows, found.batches = found.rows + size, found.batches + 1
        found.sizes.append(size)
        if isinstance(x, Tensor) and x.is_floating_point():
            inputs.add(x)
        if isinstance(y, Tensor):
            if y.is_floating_point():
                targets.add(y)
            elif y.dtype != torch.bool:
                values, counts = y.unique(return_counts=True)
                for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                    found.counts[value] = found.counts.get(value, 0) + count
            flat = y.detach().double().flatten(1).mean(1) if y.ndim > 1 else y.detach().double()
            if flat.numel():
                means.append((float(flat.mean()), float(flat.var(correction=0)), flat.numel()))
        if isinstance(x, Tensor) and isinstance(y, Tensor) and sum(len(k[0]) for k in kept) < ROWS:
            kept.append((x.detach(), y.detach()))
        if found.rows >= limit:
            break
    if not found.batches:
        raise ProgramError("a loader is empty: it yields no batch; with drop_last=True a batch must fit into the data")
    found.inputs, found.targets = inputs.result(), targets.result()
    found.batch_means = [mean for mean, _, _ in means]
    if means:
        total = Moments.of(torch.tensor(found.batch_means, dtype=torch.float64))
        within = sum(var * n for _, var, n in means) / sum(n for _, _, n in means)
        found.target_std = math.sqrt(float(total.var()) + within)
    if kept and len({tuple(k[0].shape[1:]) for k in kept}) == 1 and len({tuple(k[1].shape[1:]) for k in kept}) == 1:
        found.kept = torch.cat([k[0] for k in kept])[:ROWS], torch.cat([k[1] for k in kept])[:ROWS]
    found.fixed_order = _fixed_order(loader)
    return found


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, list | tuple) and len(batch) == 2


def _fixed_order(loader: Any) -> bool:
    """Whether passes come in one order: known of a plain loader, else seen from the first batches of two passes."""
    inner = getattr(loader, "loader", loader)
    if isinstance(inner, DataLoader) and isinstance(inner.sampler, SequentialSampler):
        return True
    first, second = (next(islice(loader, 1), None) for _ in range(2))
    try:
        a, b = split(first)[1], split(second)[1]
        x, z = split(first)[0], split(second)[0]
        return all(isinstance(t, Tensor) for t in (a, b, x, z)) and torch.equal(a, b) and torch.equal(x, z)
    except (ProgramError, RuntimeError):
        return False


def ordered(found: Data) -> float:
    """Variance of the batches' mean targets, by what batches drawn at random would have; 1 is random."""
    sizes = [size for size in found.sizes if size > 1]
    if len(found.batch_means) < 4 or not sizes or not found.target_std:
        return 1.0
    between = float(torch.tensor(found.batch_means, dtype=torch.float64).var(correction=1))
    return between / (found.target_std**2 * sum(1 / size for size in found.sizes) / len(found.sizes))


class _Collector:
    """Merges the moments of tensors that come in batches, NaN and infinity apart."""

    def __init__(self) -> None:
        self.columns: Moments | None = None
        self.low, self.high, self.bad = math.inf, -math.inf, 0
        self.shape: tuple[int, ...] | None = ()
        self.whole: Moments | None = None

    def add(self, x: Tensor) -> None:
        x = x.detach()
        if x.numel() == 0 or x.is_complex():
            return
        channels = 1 if x.ndim >= 4 else x.ndim - 1
        dims = [d for d in range(x.ndim) if d != channels] if x.ndim > 1 else [0]
        finite = torch.isfinite(x)
        mask = None if bool(finite.all()) else finite
        self.bad += 0 if mask is None else int((~finite).sum())
        values = x if mask is None else x[finite]
        if values.numel():
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        columns, whole = Moments.of(x, dims, mask), Moments.of(x, None, mask)
        if self.columns is not None and self.columns.shape != columns.shape:  # rows of different lengths
            self.columns = None
        self.columns = columns if self.columns is None else self.columns + columns
        self.whole = whole if self.whole is None else self.whole + whole
        self.shape = tuple(x.shape[1:])

    def result(self) -> Columns | None:
        if self.columns is None or self.whole is None:
            return None
        return Columns(self.shape or (), self.columns, self.whole, self.low, self.high, self.bad)


def _size(x: Any) -> int:
    if isinstance(x, Tensor):
        return len(x) if x.ndim else 1
    if isinstance(x, Mapping):
        return max((_size(value) for value in x.values()), default=1)
    return max((_size(value) for value in x), default=1) if isinstance(x, list | tuple) and x else 1
