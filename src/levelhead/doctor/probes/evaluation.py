"""Watches one evaluation of a copy: its score and the modes that modules ran in."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from levelhead.doctor.probes.structure import BATCH_NORM, DROPOUT
from levelhead.doctor.program import Program


@dataclass
class Evaluation:
    """How a program evaluates.

    Args:
        score: of the model as it is given.
        training: batch normalizations and dropouts that ran in training mode; ran: those that ran at all.
        error: what it raised.
    """

    score: float = -math.inf
    training: list[str] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)
    error: Exception | None = None


def measure(twin: Program) -> Evaluation:
    """Evaluate a copy, as it would be after an update; the copy is used up."""
    found = Evaluation()
    twin.model.train()  # so that a mode that the evaluation does not set is seen

    def hook(name: str) -> Any:
        def ran(module: nn.Module, args: Any) -> None:
            found.ran.add(name)
            if module.training and name not in found.training:
                found.training.append(name)

        return ran

    for name, module in twin.model.named_modules():
        if isinstance(module, BATCH_NORM) or (isinstance(module, DROPOUT) and module.p > 0):
            module.register_forward_pre_hook(hook(name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.score = float(twin.final_score())
    except Exception as error:
        found.error = error
    if math.isnan(found.score):
        found.score = -math.inf
    return found
