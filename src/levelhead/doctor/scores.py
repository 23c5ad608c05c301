"""How a program is scored where its author says nothing: one measure, chosen before anything is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence.loss import LossKind
from levelhead.doctor.isolation import copied
from levelhead.doctor.program import Program, answers, are_classes, one_hot


@dataclass(eq=False)
class OwnLoss:
    """Minus the mean of the program's own loss over a loader's batches, whatever a trial has put in its place."""

    loss: Callable[..., Any]

    def __call__(self, model: nn.Module, loader: Any) -> float:
        """The score."""
        total = rows = 0.0
        for outputs, targets in answers(model, loader):
            count = len(targets) if isinstance(targets, Tensor) and targets.ndim else 1
            total += count * float(self.loss(outputs, targets))
            rows += count
        return -total / rows


def shares_hit(model: nn.Module, loader: Any) -> float:
    """Accuracy of rows whose targets are shares of the classes, one-hot ones included, or class numbers."""
    right = rows = 0
    for outputs, targets in answers(model, loader):
        labels = one_hot(outputs, targets)
        right += int((outputs.argmax(1) == labels).sum())
        rows += labels.numel()
    return right / max(1, rows)


def brier_skill(model: nn.Module, loader: Any) -> float:
    """1 minus the squared error of probabilities by that of the labels' mean; scores become probabilities first.

    Source: Brier 1950, Verification of forecasts expressed in terms of probability.
    """
    pairs = [(o.flatten().double(), t.flatten().double()) for o, t in answers(model, loader)]
    p, y = (torch.cat(part) for part in zip(*pairs, strict=True))
    p = p if bool(((p >= 0) & (p <= 1)).all()) else p.sigmoid()
    return 1 - float((y - p).square().sum()) / float((y - y.mean()).square().sum())


def judged(program: Program, kind: LossKind, outputs: Any, targets: Any) -> str:
    """Give a program without a score the one that fits its loss; what it is called.

    A loss of the author's own is itself the judge, unless it is a squared or absolute error or targets are classes.
    """
    where = "validation data" if program.val is not None else "training data"
    if program.evaluate is not None:
        return "the program's own evaluation"
    if program.score is not None:
        named = {shares_hit: "accuracy", brier_skill: "Brier skill"}.get(program.score)
        own = "minus the program's own loss" if isinstance(program.score, OwnLoss) else "the program's own score"
        return f"{named or own} on {where}"
    if are_classes(outputs, targets):
        return f"accuracy on {where}"
    alike = isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.numel() == targets.numel()
    if alike and kind.task == "classes" and outputs.shape == targets.shape and outputs.shape[1:].numel() > 1:
        program.score = shares_hit
    elif not alike or not (_of_torch(program.loss) or kind.kind in ("squared", "absolute") or _misled(kind)):
        program.score = OwnLoss(copied(program.loss, {}))
    elif kind.kind in ("logits", "probabilities") and kind.task == "binary":
        program.score = brier_skill
    else:
        return f"coefficient of determination (R²) on {where}"
    return judged(program, kind, outputs, targets)


def _misled(kind: LossKind) -> bool:
    """Whether a loss that is itself at fault would be the judge: one that broadcasts, or rewards distance."""
    return kind.broadcast or (kind.rewards_errors and kind.task == "quantity")


def _of_torch(loss: Any) -> bool:
    return (getattr(loss, "__module__", None) or type(loss).__module__).partition(".")[0] == "torch"
