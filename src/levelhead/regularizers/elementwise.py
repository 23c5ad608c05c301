"""L1, L2 and the elastic net: penalties on each weight by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.penalty import Penalty, row_norms
from levelhead.regularizers.schedules import Schedule
from levelhead.regularizers.selection import Where
from levelhead.regularizers.shrinking import Shrinking


class L1(Penalty):
    r"""The sum of absolute values, which makes weights exactly 0 when attached.

    .. math:: R(W) = \lambda \sum |w| \qquad \text{attached: } w \leftarrow sign(w) \max(|w| - \alpha\lambda, 0)

    Args:
        strength: λ, at least 0; may follow the step (see ``Schedule``).
        where: which parameters; see ``Penalty``.

    Raises:
        ValueError: a strength is negative or not finite.

    Source: Tibshirani 1996, "Regression shrinkage and selection via the lasso"; the step: Parikh & Boyd 2014,
    "Proximal algorithms", section 6.5.2.
    """

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ Σ|w|."""
        return strengths[0] * absolute(weights)

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """Soft thresholding by αλ."""
        soft_threshold_(weights, rate * strengths[0])


class L2(Penalty):
    r"""Half the sum of squares; attached, the decay of weights that does not depend on the optimizer.

    .. math:: R(W) = \frac{\lambda}{2} \sum w^2 \qquad \text{attached: } w \leftarrow (1 - \alpha\lambda) w

    The half makes the gradient λw, and the shrink of plain gradient descent the one that is attached. Arguments and
    errors as ``L1``.

    Source: Krogh & Hertz 1991, "A simple weight decay can improve generalization"; decoupled: Loshchilov & Hutter
    2019, "Decoupled weight decay regularization", algorithm 2.
    """

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ/2 Σw²."""
        return strengths[0] / 2 * squares(weights)

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """Multiply by 1 - αλ."""
        _check_shrink(strengths[0], rate)
        if rate * strengths[0]:
            torch._foreach_mul_(weights, 1 - rate * strengths[0])

    def attach(self, optimizer: Optimizer, model: nn.Module | None = None) -> Attachment:
        """As ``Penalty.attach``, but at the beginning of each step, as ``AdamW`` does; see ``Shrinking``."""

        def strength(step: int, rate: float) -> float:
            (value,) = self.at(step)
            _check_shrink(value, rate)
            return value

        return Shrinking(optimizer, self._act, strength, self.where, model, type(self).__name__)


class ElasticNet(Penalty):
    r"""L1 and L2 together: zeros, and weights that stay together where their inputs are alike.

    .. math:: R(W) = \lambda_1 \sum |w| + \frac{\lambda_2}{2} \sum w^2 \qquad
        \text{attached: } w \leftarrow \frac{sign(w) \max(|w| - \alpha\lambda_1, 0)}{1 + \alpha\lambda_2}

    Args:
        l1: λ₁, at least 0; may follow the step.
        l2: λ₂, as well.
        where: which parameters; see ``Penalty``.

    Raises:
        ValueError: a strength is negative or not finite.

    Source: Zou & Hastie 2005, "Regularization and variable selection via the elastic net"; the step: Parikh & Boyd
    2014, "Proximal algorithms", section 6.5.3.
    """

    def __init__(self, l1: Schedule, l2: Schedule, where: Where = None) -> None:
        self._begin(where, l1=l1, l2=l2)

    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """λ₁ Σ|w| + λ₂/2 Σw²."""
        l1, l2 = strengths
        return l1 * absolute(weights) + l2 / 2 * squares(weights)

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """Soft thresholding, then a shrink."""
        l1, l2 = strengths
        soft_threshold_(weights, rate * l1)
        if l2:
            torch._foreach_mul_(weights, 1 / (1 + rate * l2))


def absolute(weights: list[Tensor]) -> Tensor:
    """Σ|w|."""
    return torch.stack([row_norms(weight, 1).sum() for weight in weights]).sum()


def squares(weights: list[Tensor]) -> Tensor:
    """Σw²."""
    return torch.stack([row_norms(weight, 2).square().sum() for weight in weights]).sum()


def _check_shrink(strength: float, rate: float) -> None:
    if rate * strength >= 1:
        raise ValueError(
            f"the shrink 1 - αλ would be {1 - rate * strength:g}, with learning rate α = {rate:g} and strength "
            f"λ = {strength:g}; their product must be below 1"
        )


def soft_threshold_(weights: list[Tensor], threshold: float) -> None:
    """Move every value towards 0 by a threshold, and to exactly 0 what is not farther from it; NaN stays NaN."""
    if threshold == 0:
        return
    if all(weight.device.type == "cpu" for weight in weights):
        for weight in weights:  # one pass over the memory
            torch._C._nn.softshrink(weight, threshold, out=weight)  # type: ignore[call-arg]
        return
    inner = torch._foreach_clamp_max(weights, threshold)
    torch._foreach_clamp_min_(inner, -threshold)
    torch._foreach_sub_(weights, inner)
