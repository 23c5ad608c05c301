"""Bounds on the weights of each unit, kept by a projection after each step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.penalty import unit_norms
from levelhead.regularizers.selection import Where, choose
from levelhead.weights import weights


class Constraint(ABC):
    """A set that the weights are put back into.

    Args:
        where: which parameters; by default the weights. See ``select``.
        dim: the dimension that counts the units: 0 for outputs, 1 for inputs, of linear maps and of convolutions,
            transposed ones too.
    """

    def __init__(self, where: Where = None, dim: int = 0) -> None:
        self.where, self.dim = where, dim

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Put a model's weights into the set, now.

        Raises:
            ValueError: ``where`` chooses nothing, or a weight has no such dimension, or it is calculated from others
                in a way that cannot be in the set.
        """
        for one in choose(list(weights(model)), self.where):
            one.change_(lambda weight: self.project_([weight]), type(self).__name__)

    def attach(self, optimizer: Optimizer, model: nn.Module | None = None) -> Attachment:
        """Put the weights into the set after each step of an optimizer; as ``Penalty.attach``."""
        return Attachment(
            optimizer,
            lambda weights, rate, step: self.project_(weights),
            self.where,
            model,
            type(self).__name__,
            needs_rate=False,
        )

    @abstractmethod
    def project_(self, weights: list[Tensor]) -> None:
        """Put weights into the set, in place."""


class MaxNorm(Constraint):
    r"""The weights of each unit have at most the norm ``most``.

    .. math:: w \leftarrow w \cdot \min(1, c / \|w\|_2)

    Args:
        most: c, above 0; 3 and 4 are usual beside dropout.
        where: which parameters; see ``Constraint``.
        dim: the dimension that counts the units; see ``Constraint``.

    Raises:
        ValueError: c is not above 0.

    Source: Srivastava et al. 2014, "Dropout", section 5.1.
    """

    def __init__(self, most: float, where: Where = None, dim: int = 0) -> None:
        if not 0 < most < math.inf:
            raise ValueError(f"the largest norm must be above 0 and finite, got {most}")
        super().__init__(where, dim)
        self.most = float(most)

    def project_(self, weights: list[Tensor]) -> None:
        """Shrink the units that are too long; the others keep their bits."""
        for weight in weights:
            factor = self.most / unit_norms(weight, self.dim)
            if weight.device.type != "cpu" or bool((factor < 1).any()):  # on a GPU a look would wait for it
                weight.mul_(factor.clamp_(max=1))


class UnitNorm(Constraint):
    r"""The weights of each unit have the norm 1; a unit of zeros stays.

    .. math:: w \leftarrow w / \|w\|_2

    Args:
        where: which parameters; see ``Constraint``.
        dim: the dimension that counts the units; see ``Constraint``.

    Source: Salimans & Kingma 2016, "Weight normalization", section 2, with the scale fixed at 1.
    """

    def project_(self, weights: list[Tensor]) -> None:
        """Divide each unit by its norm."""
        for weight in weights:
            norms = unit_norms(weight, self.dim)
            weight.div_(torch.where(norms > 0, norms, 1))
