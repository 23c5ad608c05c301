"""Views of data: what an arm trains on where it is not the data set as it is. Each is a function of data and seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from levelhead.moments import Moments

if TYPE_CHECKING:
    from levelhead.data import Dataset, Split


@dataclass(frozen=True)
class Rows:
    """So many training rows, drawn by the seed; validation and test stay whole."""

    count: int

    def __call__(self, data: Dataset, seed: int) -> Dataset:
        """The data with few rows."""
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[: self.count]
        return _trained_on(data, data.train.inputs[order], data.train.targets[order])


@dataclass(frozen=True)
class RandomLabels:
    """So many training rows whose labels are drawn at random, by the seed: there is nothing to learn but the rows."""

    count: int

    def __call__(self, data: Dataset, seed: int) -> Dataset:
        """The data with labels that mean nothing, in the training rows alone."""
        train = Rows(self.count)(data, seed).train
        random = torch.Generator().manual_seed(seed + 1)
        labels = torch.randint(len(data.classes), train.targets.shape, generator=random)
        return _trained_on(data, train.inputs, labels)


@dataclass(frozen=True)
class Outliers:
    """So many training rows, as ``Rows`` draws them, and the inputs of a share of these so many times as large."""

    count: int
    share: float
    times: float

    def __call__(self, data: Dataset, seed: int) -> Dataset:
        """The data with outliers in the training rows alone, which are drawn in random order."""
        train = Rows(self.count)(data, seed).train
        inputs = train.inputs.clone()
        inputs[: round(self.share * self.count)] *= self.times
        return _trained_on(data, inputs, train.targets)


@dataclass(frozen=True)
class Inputs:
    """Inputs as flat features, ``raw`` or normalized with the mean and covariance of the training rows.

    Features that do not vary in the training rows are left out, in all kinds. ``whitened`` is (x - mean) Σ^(-1/2).
    """

    kind: Literal["raw", "centred", "standardized", "whitened"]

    def __call__(self, data: Dataset, seed: int) -> Dataset:
        """The data with such inputs."""
        x = data.train.inputs.flatten(1).double()
        moments = Moments.of(x, 0)
        varies = (x != x[0]).any(0)
        mean = moments.mean[varies] if self.kind != "raw" else torch.zeros(int(varies.sum()), dtype=x.dtype)
        size = len(mean)
        matrix = torch.eye(size, dtype=x.dtype)
        if self.kind == "standardized":
            matrix = moments.std()[varies].reciprocal().diag()
        elif self.kind == "whitened":
            centred = x[:, varies] - mean
            values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
            # Directions in which the rows do not vary but by rounding have no scale that could be undone.
            scale = torch.where(values > 1e-9 * values[-1], values.clamp_min(1e-30).rsqrt(), 0.0)
            matrix = vectors @ scale.diag() @ vectors.T

        def prepared(split: Split) -> Split:
            inputs = (split.inputs.flatten(1).double()[:, varies] - mean) @ matrix
            return replace(split, inputs=inputs.float())

        return replace(
            data,
            train=prepared(data.train),
            validation=prepared(data.validation),
            test=prepared(data.test),
            features=tuple(f"feature {i}" for i in range(size)),
        )


@dataclass(frozen=True)
class Wave:
    """Noisy points of one period of a sine on [-1, 1], drawn by the seed, in place of the data."""

    count: int
    noise: float

    def __call__(self, data: Dataset, seed: int) -> Dataset:
        """The regression data: few training points, many for validation and test, which have noise too."""
        random = torch.Generator().manual_seed(seed)
        train, validation, test = (self._split(n, random) for n in (self.count, 400, 400))
        return replace(
            data,
            name="wave",
            source=repr(self),
            task="regression",
            measure="",
            train=train,
            validation=validation,
            test=test,
            classes=(),
            features=("x",),
        )

    def _split(self, count: int, random: torch.Generator) -> Split:
        from levelhead.data import Split

        x: Tensor = 2 * torch.rand(count, 1, generator=random) - 1
        y = torch.sin(math.pi * x) + self.noise * torch.randn(count, 1, generator=random)
        return Split(x, y)


def _trained_on(data: Dataset, inputs: Tensor, targets: Tensor) -> Dataset:
    """The data with other training rows; its score stays, whatever classes these hold."""
    return replace(data, train=replace(data.train, inputs=inputs, targets=targets), measure=data.metric)
