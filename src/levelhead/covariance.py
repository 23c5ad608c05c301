"""Count, mean and the matrix of summed products of deviations: a covariance that merges, as ``Moments`` do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from levelhead.moments import Moments, check_mask, check_values, from_origin, statistics_dtype

#: Values a block, on the CPU: the wide copy stays in the cache, and the product is large enough to be worth its call;
#: and on other devices, as for ``Moments``.
_BLOCK, _ELSEWHERE = 2**18, 2**24


@dataclass(frozen=True, slots=True, eq=False)
class Comoments:
    r"""The mean of a population of vectors and its comoment matrix, as a value that merges.

    .. math:: n, \quad \mu = \frac{1}{n}\sum_i x_i, \quad C = \sum_i (x_i - \mu)(x_i - \mu)^T

    Two populations merge as those of ``Moments`` do, with the outer product in the place of the square (Chan, Golub &
    LeVeque 1979, eq. 2.1; Schubert & Gertz 2018, "Numerically stable parallel computation of (co-)variance", eq. 21):

    .. math:: C = C_a + C_b + \delta\delta^T\frac{n_a n_b}{n}, \quad \delta = \mu_b - \mu_a

    Args:
        count: how many vectors were seen, an int64 scalar.
        mean: (features,), in the units of the values; NaN where the count is 0.
        comoment: (features, features), in squared units; 0 where the count is 0.

    Example:
        >>> Comoments.of(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).cov().tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """

    count: Tensor
    mean: Tensor
    comoment: Tensor

    @classmethod
    def of(cls, x: Tensor, dim: int = 1, mask: Tensor | None = None) -> Self:
        """The comoments of the vectors that lie along the dimension ``dim`` of ``x``, in the arithmetic of ``Moments``.

        Args:
            x: real values; (rows, features), (rows, channels, height, width), ...
            dim: the dimension of the features; every position of the others is one vector.
            mask: boolean, broadcastable to the shape of ``x`` with 1 in the place of ``dim``; True counts. What is
                behind it, NaN included, has no influence.

        Raises:
            TypeError: ``x`` is no dense tensor of real numbers, or the mask is not boolean.
            ValueError: the mask cannot be broadcast.
            IndexError: ``dim`` is out of range.
        """
        check_values(x, "Comoments")
        if not -x.ndim <= dim < x.ndim:
            raise IndexError(f"dimension {dim} is out of range for x of shape {tuple(x.shape)}")
        rows = x.movedim(dim, -1)
        if mask is not None:
            shape = tuple(1 if d == dim % x.ndim else n for d, n in enumerate(x.shape))
            mask = check_mask(mask, shape, f"{shape}, one a vector").movedim(dim, -1).squeeze(-1)
            rows = rows[mask]
        if not rows.numel():
            return cls.empty(x.shape[dim], x.device)
        if rows.ndim == 1:
            rows = rows.unsqueeze(0)
        axes = tuple(range(rows.ndim - 1))
        if (counted := from_origin(rows, axes)) is not None:
            near = cls.of(counted[0], -1)
            return cls(near.count, near.mean + counted[1].squeeze(axes), near.comoment)
        length = max(1, (_BLOCK if x.device.type == "cpu" else _ELSEWHERE) * len(rows) // rows.numel())
        return reduce(cls.merge, (cls._of_block(block) for block in torch.split(rows, length)))

    @classmethod
    def _of_block(cls, block: Tensor) -> Self:
        wide = block.to(statistics_dtype(block.device)).reshape(-1, block.shape[-1])
        mean = wide.mean(0)
        deviation = wide - mean
        return cls(torch.full((), len(wide), device=block.device), mean, deviation.mT @ deviation)

    @classmethod
    def empty(cls, features: int, device: torch.device | str | None = None) -> Self:
        """The comoments of nothing: merged with any others, they leave them as they are."""
        none = Moments.empty((features,), device)
        return cls(none.count, none.mean, torch.zeros(features, features, dtype=none.mean.dtype, device=device))

    def merge(self, other: Comoments) -> Self:
        """The comoments of both populations together.

        Raises:
            ValueError: the numbers of features differ.
        """
        if self.mean.shape != other.mean.shape:
            shapes = f"{len(self.mean)} and {len(other.mean)}"
            raise ValueError(f"comoments merge only where they are of the same features, got {shapes} features")
        each = self.moments.merge(other.moments)
        count = self.count + other.count
        delta = (other.mean - self.mean).masked_fill((self.count == 0) | (other.count == 0), 0)
        between = torch.outer(delta, delta) * (self.count * other.count.to(delta.dtype) / count.clamp(min=1))
        return type(self)(count, each.mean, self.comoment + other.comoment + between)

    def __add__(self, other: Comoments) -> Self:
        return self.merge(other) if isinstance(other, Comoments) else NotImplemented

    def __radd__(self, other: object) -> Self:
        return self if other == 0 else NotImplemented  # the start value of sum()

    @property
    def moments(self) -> Moments:
        """The moments of each feature alone."""
        return Moments(self.count, self.mean, self.comoment.diagonal().clone())

    def cov(self, correction: int = 0) -> Tensor:
        """The covariance matrix, C / (count - correction): 0 is the population's, 1 the unbiased estimate."""
        return self.comoment / (self.count - correction).clamp(min=0)

    def all_reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """The comoments of all ranks together, the same bits on every rank, by one collective."""
        packed = torch.cat([self.count.to(self.mean.dtype).expand(1, len(self.mean)), self.mean[None], self.comoment])
        gathered = [torch.empty_like(packed) for _ in range(dist.get_world_size(group))]
        dist.all_gather(gathered, packed, group=group)
        return reduce(type(self).merge, (type(self)(part[0, 0].long(), part[1], part[2:]) for part in gathered))
