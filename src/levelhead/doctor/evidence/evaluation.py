"""Watches one evaluation of a copy: its score and the modes that modules ran in."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from levelhead.doctor.evidence.structure import BATCH_NORM, DROPOUT
from levelhead.doctor.program import Program

#: Dropout as a function, which is told whether to drop values by its argument ``training``.
DROPPING = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}


class WithoutDropout(TorchFunctionMode):
    """While it is entered, dropout as a function drops nothing; calls ``tell`` where it would have."""

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, told that nobody is training if it is a dropout."""
        given = dict(kwargs or {})
        if func in DROPPING:
            names = ("input", "p", "training")
            given |= dict(zip(names, args, strict=False))
            if given.get("training", True) and given.get("p", 0.5) > 0:
                self.tell()
            return func(**{name: given[name] for name in ("input", "p") if name in given}, training=False)
        return func(*args, **given)


@dataclass
class Evaluation:
    """How a program evaluates.

    Args:
        score: of the model as it is given.
        training: batch normalizations and dropouts that ran in training mode; ran: those that ran at all.
        dropped: the module in which each dropout was called that drops values, module or function.
        error: what it raised.
    """

    score: float = -math.inf
    training: list[str] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)
    dropped: list[str] = field(default_factory=list)
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
            with _where(twin.model) as inside, WithoutDropout(lambda: found.dropped.append(inside[-1])):
                found.score = float(twin.final_score())
    except Exception as error:
        found.error = error
    if math.isnan(found.score):
        found.score = -math.inf
    return found


@contextmanager
def _where(model: nn.Module) -> Iterator[list[str]]:
    """The modules that are running, outermost first; the model itself has no name."""
    inside = [""]

    def enters(name: str) -> Any:
        return lambda module, args: inside.append(name)

    def leaves(module: nn.Module, args: Any, output: Any) -> None:
        inside.pop()

    handles = [module.register_forward_pre_hook(enters(name)) for name, module in model.named_modules()]
    handles += [module.register_forward_hook(leaves) for module in model.modules()]
    try:
        yield inside
    finally:
        for handle in handles:
            handle.remove()
