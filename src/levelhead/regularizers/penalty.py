"""What all penalties share: a strength, a choice of parameters, and two ways to act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers import schedules
from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.schedules import Schedule
from levelhead.regularizers.selection import Where, choose
from levelhead.weights import weights


class Penalty(ABC):
    r"""R(W), to be added to a loss, or to act on its own after each step of an optimizer.

    As a term, :math:`L + R(W)`: ``loss + penalty(model)``; its gradient goes through the optimizer's momentum and
    scaling. Decoupled, ``penalty.attach(optimizer)``: after each step the weights are moved by
    :math:`\alpha` times the penalty alone, with the group's learning rate :math:`\alpha`, whatever the optimizer.

    Args:
        strength: λ, at least 0; may follow the step.
        where: which parameters; by default the weights, without biases and normalizers. See ``select``.
    """

    def __init__(self, strength: Schedule, where: Where = None) -> None:
        self._begin(where, strength=strength)

    def _begin(self, where: Where, **strengths: Schedule) -> None:
        for name, strength in strengths.items():
            schedules.check(strength, f"{type(self).__name__}'s {name}")
        self._strengths, self.where = strengths, where

    def __call__(self, of: nn.Module | Tensor | Iterable[Tensor], step: int = 0) -> Tensor:
        """The penalty of a model, or of given tensors.

        Args:
            of: a model, from which ``where`` chooses; or a tensor; or several.
            step: where a scheduled strength stands.

        Returns:
            A scalar with a gradient.

        Raises:
            ValueError: ``where`` chooses nothing.
        """
        if isinstance(of, nn.Module):
            return self.of(of)(step)
        tensors = [of] if isinstance(of, Tensor) else list(of)
        if not tensors:
            raise ValueError(f"{type(self).__name__} of no tensors; give it a model, a tensor or several")
        return self.term(tensors, *self.at(step))

    def of(self, model: nn.Module) -> Callable[[int], Tensor]:
        """The penalty of a model as a function of the step, for a loop: what ``where`` chooses is looked up once.

        Raises:
            ValueError: ``where`` chooses nothing.
        """
        chosen = choose(list(weights(model)), self.where)
        return lambda step: self.term([one.units() for one in chosen], *self.at(step))

    def attach(self, optimizer: Optimizer, model: nn.Module | None = None) -> Attachment:
        """Let it act after each step of an optimizer, decoupled from the loss.

        Args:
            optimizer: any of ``torch.optim.Optimizer``.
            model: whose names and modules ``where`` speaks of.

        Returns:
            What counts the exact zeros, and takes it off again; see ``Attachment``.

        Raises:
            ValueError: ``where`` chooses nothing, or a parameter group has no learning rate; at a step, a weight is
                calculated from others in a way that cannot give the result.
        """
        return Attachment(optimizer, self._act, self.where, model, type(self).__name__)

    def _act(self, weights: list[Tensor], rate: float, step: int) -> None:
        self.move_(weights, rate, *self.at(step))

    def at(self, step: int) -> tuple[float, ...]:
        """The strengths at a step."""
        return tuple(
            schedules.value(schedule, step, f"{type(self).__name__}'s {name}")
            for name, schedule in self._strengths.items()
        )

    @abstractmethod
    def term(self, weights: list[Tensor], *strengths: float) -> Tensor:
        """The penalty of some tensors at given strengths."""

    def move_(self, weights: list[Tensor], rate: float, *strengths: float) -> None:
        """Move weights in place by the penalty alone: by default one step of its gradient, of this rate."""
        with torch.enable_grad():
            copies = [weight.detach().requires_grad_() for weight in weights]  # the same memory
            gradients = torch.autograd.grad(self.term(copies, *strengths), copies)
        torch._foreach_add_(weights, gradients, alpha=-rate)

    def __repr__(self) -> str:
        shown = self._strengths | ({} if self.where is None else {"where": self.where})
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def row_norms(weight: Tensor, order: int) -> Tensor:
    """The norm of each row, whose gradient at 0 is 0, in float32 for narrower types.

    By rows, because the norm of a million values in one float32 sum loses two digits, or more.
    """
    norms: Tensor = torch.linalg.vector_norm(as_matrix(weight), order, 1, dtype=_wide(weight))
    return norms


def unit_norms(weight: Tensor, dim: int) -> Tensor:
    """The Euclidean norm of each slice along ``dim``, in a shape that goes with the weight.

    Raises:
        ValueError: the weight has no such dimension.
    """
    if not -weight.ndim <= dim < weight.ndim:
        raise ValueError(f"units are along dimension {dim}, and a weight has the shape {tuple(weight.shape)}")
    others = [d for d in range(weight.ndim) if d != dim % weight.ndim]
    norms: Tensor = torch.linalg.vector_norm(weight, 2, others or None, keepdim=True, dtype=_wide(weight))
    return norms if others else weight.abs()


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as (units, everything else)."""
    return weight.flatten(1) if weight.ndim > 1 else weight.reshape(1, -1)


def _wide(weight: Tensor) -> torch.dtype | None:
    return torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else None
