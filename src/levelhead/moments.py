"""Count, mean and sum of squared deviations: every statistic here, and the one formula that merges them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

#: Values a block, on the CPU: large enough to hide the cost of a call, small enough that its wide copy stays in the
#: cache, and that PyTorch takes each step on one thread (its grain is 2**15): on a busy machine a barrier costs more
#: than work. On other devices, where each call is a launch, the wide copy need but fit (128 MiB).
_BLOCK, _ELSEWHERE = 2**15 - 1, 2**24
#: Rows, and values a row, that a block should have at least where rows are merged.
_SHORT = 64

#: Called with x, the dimensions (none negative) and whether NaN is ignored; see ``accelerate``.
Fast = Callable[[Tensor, tuple[int, ...], bool], tuple[Tensor, Tensor, Tensor] | None]
_fast: list[Fast] = []


def accelerate(function: Fast) -> None:
    """Have ``Moments.of`` try this first: it returns count, mean and M2 in float64, or None where it cannot serve.

    ``ops`` brings the compiled kernels here, which this module must not know.
    """
    _fast[:] = [function]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    r"""The first two moments of a population, as a value that merges.

    .. math:: n, \quad \mu = \frac{1}{n}\sum_i x_i, \quad M_2 = \sum_i (x_i - \mu)^2

    Never E[x²] - mean², which loses all digits where the mean is large beside the spread. Two populations merge
    exactly, in any order (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    sample variances", eq. 2.1):

    .. math:: \mu = \mu_a + \delta\frac{n_b}{n}, \quad M_2 = M_{2a} + M_{2b} + \delta^2\frac{n_a n_b}{n},
              \quad \delta = \mu_b - \mu_a

    Args:
        count: how many values were seen, int64; of the shape of ``mean``, or a scalar where all counts are equal.
        mean: their mean, in the units of the values; NaN where the count is 0.
        m2: the sum of their squared deviations from the mean, in squared units; 0 where the count is 0.

    Example:
        >>> a, b = Moments.of(torch.tensor([4.0, 7.0])), Moments.of(torch.tensor([5.0]))
        >>> round(float((a + b).var()), 4)
        1.5556
    """

    count: Tensor
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(
        cls,
        x: Tensor,
        dim: int | Sequence[int] | None = None,
        mask: Tensor | None = None,
        *,
        ignore_nan: bool = False,
    ) -> Self:
        """The moments of ``x`` over the dimensions ``dim``.

        The arithmetic is float64 where the device has it (float32 otherwise), whatever the type of ``x``. Integers
        beyond 2⁵³ are counted from one among those that count, which costs no digits.

        Args:
            x: values of any shape; integers and booleans count as numbers.
            dim: the dimensions to reduce; all of them by default.
            mask: boolean, broadcastable to the shape of ``x``; True counts. What is behind the mask, NaN
                included, has no influence.
            ignore_nan: whether NaN does not count, as if it were masked.

        Returns:
            Moments of the shape of ``x`` without ``dim``.

        Raises:
            TypeError: ``x`` is no dense tensor of real numbers, or the mask is not boolean.
            ValueError: the mask cannot be broadcast to ``x``.
            IndexError: a dimension is out of range.
        """
        check_values(x, "Moments")
        dims = tuple(range(x.ndim)) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
        mask = None if mask is None else check_mask(mask, x.shape)
        for d in dims:
            if not -x.ndim <= d < x.ndim:
                raise IndexError(f"dimension {d} is out of range for x of shape {tuple(x.shape)}")
        dims = tuple({d % x.ndim: None for d in dims})
        ignore_nan = ignore_nan and x.is_floating_point()
        if dims and (counted := from_origin(x, dims, mask)) is not None:
            near, origin = cls.of(counted[0], dims, mask), counted[1].squeeze(dims)
            return cls(near.count, near.mean + origin, near.m2)
        if mask is None and dims:
            for function in _fast:
                if (found := function(x, dims, ignore_nan)) is not None:
                    count, mean, m2 = found
                    whole = math.prod([x.shape[d] for d in dims])
                    return cls(count.long() if ignore_nan else torch.full((), whole, device="cpu"), mean, m2)
        if ignore_nan:
            mask = ~x.isnan() if mask is None else mask & ~x.isnan()
        return cls._of_blocks(x, dims, mask)

    @classmethod
    def _of_blocks(cls, x: Tensor, dims: tuple[int, ...], mask: Tensor | None) -> Self:
        """Split along the dimension that is outermost in memory until a block fits; merge, or put side by side."""
        most = _BLOCK if x.device.type == "cpu" else _ELSEWHERE
        if x.numel() <= most:
            return cls._of_block(x, dims, mask)
        outermost = max((d for d in range(x.ndim) if x.shape[d] > 1), key=lambda d: (x.stride(d), x.shape[d]))
        length = max(1, most * x.shape[outermost] // x.numel())
        if outermost in dims and length < _SHORT:  # few long rows: a merge of so few costs more than a walk in columns
            widest = max((d for d in range(x.ndim) if d not in dims), key=lambda d: x.shape[d], default=outermost)
            width = max(_SHORT, most * x.shape[widest] // x.numel())
            if widest != outermost and x.shape[widest] > width:
                outermost, length = widest, width
        blocks = torch.split(x, length, outermost)
        masks = [None] * len(blocks) if mask is None else torch.split(mask, length, outermost)
        parts = [cls._of_blocks(block, dims, part) for block, part in zip(blocks, masks, strict=True)]
        if outermost in dims:
            return cls.stack(parts).reduce(0)
        position = outermost - sum(d < outermost for d in dims)
        one_count = not any(part.count.ndim for part in parts)  # then it is the same in all parts
        return cls(
            parts[0].count if one_count else torch.cat([part.count.expand(part.shape) for part in parts], position),
            torch.cat([part.mean for part in parts], position),
            torch.cat([part.m2 for part in parts], position),
        )

    @classmethod
    def _of_block(cls, x: Tensor, dims: tuple[int, ...], mask: Tensor | None) -> Self:
        """The centred two-pass moments of a tensor that is small enough to be copied to a wider type."""
        wide = x.to(statistics_dtype(x.device))
        if not dims:
            count = torch.ones((), dtype=torch.long, device=x.device) if mask is None else mask.long()
            return cls(count, wide if mask is None else wide.where(mask, torch.nan), torch.zeros_like(wide))
        if mask is None:
            count = torch.full((), math.prod([x.shape[d] for d in dims]), device=x.device)
            mean = wide.sum(dims, keepdim=True) / count
            deviation = wide - mean if wide is x else wide.sub_(mean)
            return cls(count, mean.squeeze(dims), deviation.square_().sum(dims))
        count = mask.sum(dims, keepdim=True)
        mean = wide.masked_fill(~mask, 0).sum(dims, keepdim=True) / count
        m2 = (wide - mean).masked_fill(~mask, 0).square().sum(dims)
        return cls(count.squeeze(dims), mean.squeeze(dims), m2)

    @classmethod
    def empty(cls, shape: Sequence[int] = (), device: torch.device | str | None = None) -> Self:
        """The moments of nothing: merged with any others, they leave them as they are."""
        mean = torch.full(tuple(shape), torch.nan, dtype=statistics_dtype(torch.device(device or "cpu")), device=device)
        return cls(torch.zeros((), dtype=torch.long, device=device), mean, torch.zeros_like(mean))

    @classmethod
    def stack(cls, parts: Sequence[Moments]) -> Self:
        """Several moments of one shape as the rows of one; ``reduce(0)`` merges them.

        Raises:
            ValueError: there is none, or the shapes differ.
        """
        if len({part.shape for part in parts}) != 1:
            shapes = [tuple(part.shape) for part in parts]
            raise ValueError(f"moments merge only where their shapes are the same, got {shapes}")
        return cls(
            torch.stack([part.count.expand(part.shape) for part in parts]),
            torch.stack([part.mean for part in parts]),
            torch.stack([part.m2 for part in parts]),
        )

    @property
    def shape(self) -> torch.Size:
        """The shape of the mean: one entry a feature."""
        return self.mean.shape

    def merge(self, other: Moments) -> Self:
        """The moments of both populations together.

        Raises:
            ValueError: the shapes differ.
        """
        return self.stack([self, other]).reduce(0)

    def __add__(self, other: Moments) -> Self:
        return self.merge(other) if isinstance(other, Moments) else NotImplemented

    def __radd__(self, other: object) -> Self:
        return self if other == 0 else NotImplemented  # the start value of sum()

    def reduce(self, dim: int) -> Self:
        """Merge all the populations along one dimension of the statistics (blocks of a tensor, ranks, files).

        Chan's formula for k populations at once, each mean taken as a difference to that of the first non-empty
        one, so that a large common offset costs no digits.
        """
        count = self.count.expand(self.shape)
        if self.shape[dim] == 1:
            return type(self)(count.squeeze(dim), self.mean.squeeze(dim), self.m2.squeeze(dim))
        mean = self.mean.masked_fill(count == 0, 0)
        total = count.sum(dim)
        weight = count.to(mean.dtype) / total.unsqueeze(dim)  # NaN where the total is 0, and so is the mean
        origin = mean.gather(dim, (count > 0).long().argmax(dim, keepdim=True))
        merged = origin + ((mean - origin) * weight).sum(dim, keepdim=True)
        between = (mean - merged).square() * count
        m2 = (self.m2 + between.masked_fill(count == 0, 0)).sum(dim)
        return type(self)(total, merged.squeeze(dim), m2)

    def var(self, correction: int = 0) -> Tensor:
        """The variance, M2 / (count - correction): 0 is the population's, 1 the unbiased estimate; NaN of too few."""
        return self.m2 / (self.count - correction).clamp(min=0)

    def std(self, correction: int = 0) -> Tensor:
        """The standard deviation, √var(correction)."""
        return self.var(correction).sqrt()

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """The moments of all ranks together, the same bits on every rank, by one collective.

        Every rank must hold moments of the same shape; one that saw nothing brings ``Moments.empty(shape)``.
        """
        packed = torch.stack([self.count.expand(self.shape).to(self.mean.dtype), self.mean, self.m2])
        gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, packed, group=group)
        count, mean, m2 = torch.stack(gathered).unbind(1)
        return type(self)(count.long(), mean, m2).reduce(0)


def statistics_dtype(device: torch.device) -> torch.dtype:
    """The widest type that a device calculates in."""
    return torch.float32 if device.type == "mps" else torch.float64


def from_origin(x: Tensor, dims: tuple[int, ...], mask: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
    """Integers that float64 does not hold, less one among those that count, and that one; None where it holds all."""
    if x.dtype not in (torch.int64, torch.uint64) or not x.numel():
        return None
    least, most = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
    zero = least if x.dtype == torch.uint64 else 0  # a uint64 is kept less 2**63, which int64 holds
    values = x.view(torch.int64) ^ zero if zero else x
    low, high = (values, values) if mask is None else (values.where(mask, most), values.where(mask, least))
    low, high = low.amin(dims, keepdim=True), high.amax(dims, keepdim=True)
    beyond = (high > zero + 2**53) | ((low < -(2**53)) & (zero == 0))
    origin = low.where(high - low >= 0, 0).where(beyond, zero)  # below 0 where the difference does not fit
    if zero == 0 and not bool(origin.any()):
        return None
    return values - origin, (origin ^ zero).view(x.dtype).to(statistics_dtype(x.device))


def check_values(x: object, name: str) -> None:
    """Raise TypeError where ``x`` is no dense tensor of real numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} are of a tensor, got {type(x).__name__}; try torch.as_tensor")
    if x.is_complex():
        raise TypeError(f"{name} are of real numbers, got {x.dtype}; take x.real and x.imag apart")
    if x.is_nested or x.layout != torch.strided:
        kind, way = ("nested", "x.values()") if x.is_nested else (str(x.layout), "x.to_dense()")
        raise TypeError(f"{name} are of a dense tensor, got a {kind} one; take {way}")


def check_mask(mask: Tensor, shape: Sequence[int], what: str = "") -> Tensor:
    """The mask in a shape, which a message calls ``what``."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"the mask must be a boolean tensor, got {type(mask).__name__}; try torch.as_tensor")
    if mask.dtype != torch.bool:
        raise TypeError(f"the mask must be boolean, True where a value counts, got {mask.dtype}; try mask.bool()")
    try:
        return mask.expand(*shape)
    except RuntimeError as error:
        what = what or f"x of shape {tuple(shape)}"
        raise ValueError(f"the mask of shape {tuple(mask.shape)} cannot be broadcast to {what}") from error
