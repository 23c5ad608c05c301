"""Noise on activations: modules that do something in training alone, with a rate that can be changed at any time."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from levelhead import ops


class Noise(nn.Module):
    """A module that is the identity in evaluation, or with ``p`` = 0.

    Args:
        p: the rate, at least 0 and below 1; ``module.p = ...`` changes it, and ``schedule_rates`` does over time.

    Raises:
        ValueError: the rate is out of range.
    """

    #: What every rate is below.
    below: ClassVar[float] = 1.0

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    @property
    def p(self) -> float:
        """The rate."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        if not 0 <= value < self.below:
            most = "finite" if self.below == math.inf else f"below {self.below:g}"
            raise ValueError(f"the rate of {type(self).__name__} must be at least 0 and {most}, got p = {value}")
        self._p = float(value)

    def forward(self, input: Tensor) -> Tensor:
        """The input with noise, in training."""
        return self.noisy(input) if self.training and self.p > 0 else input

    @abstractmethod
    def noisy(self, input: Tensor) -> Tensor:
        """The input with noise."""

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p:g}"


class DropPath(Noise):
    r"""Stochastic depth: whole rows are dropped, and the others scaled; for the branch of a residual block.

    .. math:: y_i = x_i \frac{m_i}{1 - p}, \quad m_i \in \{0, 1\} \text{ one a row}

    Args:
        p: the probability of dropping a row.

    Source: Huang et al. 2016, "Deep networks with stochastic depth", section 3, by rows and with the scale moved from
    testing to training.
    """

    def noisy(self, input: Tensor) -> Tensor:
        """Rows kept or dropped."""
        return input * ops.dropout(torch.ones_like(_rows(input)), self.p)


class DropBlock2d(Noise):
    r"""Square blocks of each channel of an image are dropped, and what is left is scaled to the same sum.

    Centres are drawn with the rate

    .. math:: \gamma = \frac{p}{b^2} \cdot \frac{H W}{(H - b + 1)(W - b + 1)}

    over the places where a whole block fits, so that about p of the image is dropped (a little less, as blocks
    overlap).

    Args:
        p: the share to drop.
        size: b, the side of a block; an image must not be smaller.

    Raises:
        ValueError: the rate is out of range, the block has no size, or the input is no image or smaller than a block.

    Source: Ghiasi et al. 2018, "DropBlock", section 3.1, equation 1 and algorithm 1.
    """

    def __init__(self, p: float, size: int = 7) -> None:
        super().__init__(p)
        if size < 1:
            raise ValueError(f"the size of a block must be at least 1, got {size}")
        self.size = size

    def noisy(self, input: Tensor) -> Tensor:
        """Blocks dropped."""
        if input.ndim != 4 or min(input.shape[2:]) < self.size:
            raise ValueError(
                f"DropBlock2d of blocks {self.size}×{self.size} needs images (rows, channels, height, width) at least "
                f"as large, got the shape {tuple(input.shape)}"
            )
        height, width = input.shape[2:]
        inner = (height - self.size + 1, width - self.size + 1)
        rate = min(1.0, self.p / self.size**2 * height * width / (inner[0] * inner[1]))
        corners = torch.empty(*input.shape[:2], *inner, device=input.device).bernoulli_(rate)
        around = nn.functional.pad(corners, [self.size - 1] * 4)
        kept = 1 - nn.functional.max_pool2d(around, self.size, stride=1)
        return input * (kept * (kept.numel() / kept.sum().clamp(min=1))).to(input.dtype)

    def extra_repr(self) -> str:
        """Rate and size."""
        return f"p={self.p:g}, size={self.size}"


class GaussianDropout(Noise):
    r"""Multiplied by normal noise of the variance that dropout's has.

    .. math:: y = x \cdot z, \quad z \sim N(1, p / (1 - p))

    Args:
        p: the rate of the dropout that it stands for.

    Source: Srivastava et al. 2014, "Dropout", section 10.
    """

    def noisy(self, input: Tensor) -> Tensor:
        """Multiplied by noise."""
        return input * (1 + math.sqrt(self.p / (1 - self.p)) * torch.randn_like(input))


class GaussianNoise(Noise):
    r"""Normal noise added.

    .. math:: y = x + \sigma z, \quad z \sim N(0, 1)

    Args:
        std: σ, at least 0, in the input's unit; ``module.p`` holds it, as other modules' rates.

    Raises:
        ValueError: σ is negative or not finite.

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization", equation 5.
    """

    below = math.inf

    def __init__(self, std: float) -> None:
        super().__init__(std)

    def noisy(self, input: Tensor) -> Tensor:
        """Noise added."""
        return input + self.p * torch.randn_like(input)

    def extra_repr(self) -> str:
        """The deviation."""
        return f"std={self.p:g}"


class DropConnect(Noise):
    r"""A layer whose weights are dropped, anew in each forward pass, and the others scaled.

    .. math:: y = (M \circ W) x / (1 - p) + b, \quad M_{ij} \in \{0, 1\}

    One mask a batch, where the paper has one a row. In evaluation all weights are used: the mean of what they are in
    training.

    Args:
        layer: whose ``weight`` is dropped; any module that has one.
        p: the probability of dropping a weight.

    Raises:
        ValueError: the rate is out of range, or the layer has no weight.

    Source: Wan et al. 2013, "Regularization of neural networks using DropConnect", section 3.
    """

    def __init__(self, layer: nn.Module, p: float = 0.5) -> None:
        super().__init__(p)
        if not isinstance(getattr(layer, "weight", None), Tensor):
            raise ValueError(f"DropConnect drops the weight of a layer, and {type(layer).__name__} has none")
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        """The layer with some of its weights, in training."""
        return self.noisy(input) if self.training and self.p > 0 else self.layer(input)

    def noisy(self, input: Tensor) -> Tensor:
        """The layer with some of its weights."""
        weight = ops.dropout(self.layer.weight, self.p)  # type: ignore[arg-type]
        out: Tensor = torch.func.functional_call(self.layer, {"weight": weight}, (input,))
        return out


class ShakeDrop(Noise):
    r"""The branch of a residual block, shaken: another random factor forward than backward.

    .. math:: y = (b + \alpha - b\alpha) x, \quad \nabla x = (b + \beta - b\beta) \nabla y, \quad
        P(b = 0) = p, \; \alpha \sim U(-1, 1), \; \beta \sim U(0, 1)

    with b, α and β for each row. In evaluation the mean, :math:`y = (1 - p) x`.

    Args:
        p: the probability that a row is shaken; the paper lets it grow linearly with depth, to 0.5.

    Source: Yamada et al. 2019, "ShakeDrop regularization for deep residual learning", equation 5 and table 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Shaken in training, scaled in evaluation."""
        return super().forward(input) if self.training else input * (1 - self.p)

    def noisy(self, input: Tensor) -> Tensor:
        """Shaken."""
        b = torch.empty_like(_rows(input), dtype=torch.float32).bernoulli_(1 - self.p)
        alpha, beta = torch.empty_like(b).uniform_(-1, 1), torch.empty_like(b).uniform_(0, 1)
        forward, backward = (torch.where(b > 0, 1.0, t).to(input.dtype) for t in (alpha, beta))
        # The value of the first product, the gradient of the second.
        out = input * backward
        return out + (input * (forward - backward)).detach()


def _rows(input: Tensor) -> Tensor:
    """One value a row, in a shape that goes with the input."""
    return input.detach().new_empty(len(input), *[1] * (input.ndim - 1))
