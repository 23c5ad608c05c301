"""Remedies of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from levelhead.doctor.program import Program
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.data import LossOf


def other_loss(loss: Callable[..., Any], words: str, code: str) -> Remedy:
    """Another loss."""

    def change(program: Program) -> None:
        program.loss = loss

    return Remedy(words, code, change)


def aligned_loss() -> Remedy:
    """Give the outputs the targets' shape before the loss."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, lambda o, t: (o.reshape(t.shape), t))

    return Remedy("outputs in the targets' shape", "loss = criterion(outputs.reshape(targets.shape), targets)", change)


def one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Class numbers of one-hot rows; class numbers as they are."""
    return targets.argmax(1) if targets.shape == outputs.shape else targets


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with class numbers or one-hot rows."""
    return F.cross_entropy(outputs, one_hot(outputs, targets))


def log_of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log of the target's probability, for outputs that are probabilities."""
    return F.nll_loss(outputs.clamp_min(1e-9).log(), one_hot(outputs, targets))
