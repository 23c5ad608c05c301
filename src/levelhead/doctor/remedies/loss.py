"""Remedies of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from levelhead.doctor.program import Program, hits, one_hot
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.data import LossOf
from levelhead.doctor.remedies.network import exchange


def other_loss(loss: Callable[..., Any], words: str, code: str) -> Remedy:
    """Another loss."""

    def change(program: Program) -> None:
        program.loss = loss

    return Remedy(words, code, change)


class Times:
    """A loss times a number."""

    def __init__(self, loss: Callable[..., Any], factor: float) -> None:
        self.loss, self.factor = loss, factor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, multiplied."""
        return self.factor * self.loss(*args, **kwargs)


def times(factor: float, words: str, code: str) -> Remedy:
    """The same loss times a number."""

    def change(program: Program) -> None:
        program.loss = Times(program.loss, factor)

    return Remedy(words, code, change)


def aligned_loss() -> Remedy:
    """Give the outputs the targets' shape before the loss."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, lambda o, t: (o.reshape(t.shape), t))

    return Remedy("outputs in the targets' shape", "loss = criterion(outputs.reshape(targets.shape), targets)", change)


def of_logarithms() -> Remedy:
    """Give the loss the logarithms of outputs that are positive."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, lambda o, t: (o.clamp_min(1e-6).log(), t))

    return Remedy("logarithms of the outputs", "loss = criterion(outputs.log(), targets)", change)


def outputs_for_classes(last: str, classes: int) -> Remedy:
    """An output for each class and cross-entropy, where one output was to hit the class's number."""

    def change(program: Program) -> None:
        old: Any = program.model.get_submodule(last)
        exchange(program, last, nn.Linear(old.in_features, classes, old.bias is not None))
        program.loss, program.score, program.evaluate = _numbered_cross_entropy, _numbered_accuracy, None

    code = f"# {last}: nn.Linear(..., {classes})\ncriterion = nn.CrossEntropyLoss()  # answer: outputs.argmax(1)"
    return Remedy(f"{classes} outputs and cross-entropy", code, change)


def _numbered_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets.flatten().long())


def _numbered_accuracy(model: nn.Module, loader: Any) -> float:
    return hits(model, loader, lambda outputs: outputs.argmax(1))


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with class numbers or one-hot rows."""
    return F.cross_entropy(outputs, one_hot(outputs, targets))


def log_of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log of the target's probability, for outputs that are probabilities."""
    return F.nll_loss(outputs.clamp_min(1e-9).log(), one_hot(outputs, targets))
