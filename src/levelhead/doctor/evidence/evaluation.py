"""Looks at a copy in evaluation: its score, the modes that modules ran in, and whether rows of a batch are mixed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from levelhead.doctor.evidence.structure import BATCH_NORM, DROPOUT
from levelhead.doctor.program import Program, first_tensor, forward, mapped, tensors

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


#: Rows that are looked at, and the relative difference that rounding does not explain.
ROWS, ROUNDING = 16, 1e-4


def mixing_module(model: nn.Module, inputs: Any) -> str | None:
    """The first module from which on a row's values hang on another row of its batch, in evaluation.

    Args:
        model: a copy; its mode is changed.
        inputs: of one batch.

    Returns:
        Its name (that of the model's last module where no module does it); None where rows are apart, or it cannot be
        told: batch statistics, noise, too few rows, outputs with a dimension that may be time, or one for each row.
    """
    model.eval()
    if any(isinstance(m, BATCH_NORM) and m.running_mean is None for m in model.modules()):
        return None
    first = first_tensor(inputs)
    count = min(ROWS, len(first)) if first is not None and first.ndim else 0
    if count < 3:
        return None
    whole = 0 if first is None else len(first)
    given = mapped(inputs, lambda t: t[:count].clone() if t.ndim and len(t) == whole else t)
    changed = mapped(given, lambda t: torch.cat([t[-1:], t[1:]]) if t.ndim and len(t) == count else t)
    plain, again, other = (traced(model, each, count) for each in (given, given, changed))
    if not len(plain) == len(again) == len(other):
        return None
    outputs = [i for i, (name, _) in enumerate(plain) if name == OUTPUT]
    if not any(_tells(plain[i][1], again[i][1], other[i][1], count) for i in outputs):
        return None
    name = next(name for (name, a), (_, b) in zip(plain, other, strict=True) if _differ(a, b))
    return name if name != OUTPUT else next((name for name, _ in reversed(plain) if name != OUTPUT), "")


def _tells(plain: Tensor, again: Tensor, other: Tensor, count: int) -> bool:
    """Whether an output without a dimension that may be time, or one for each row, hangs on another row."""
    if plain.ndim == 3 or (plain.ndim == 2 and plain.shape[1] == count):
        return False
    return not _differ(plain, again) and _differ(plain, other)


#: What stands for a module's name where the model's own outputs are meant.
OUTPUT = "(output)"


def traced(model: nn.Module, inputs: Any, count: int) -> list[tuple[str, Tensor]]:
    """What modules without children and, last, the model gave, as far as it has a row for each row."""
    found: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Any:
        def ran(module: nn.Module, args: Any, output: Any) -> None:
            made = first_tensor(output)
            if made is not None and _of_rows(made, count):
                found.append((name, made.detach().clone()))

        return ran

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            found += [(OUTPUT, made) for made in tensors(forward(model, inputs)) if _of_rows(made, count)]
    finally:
        for handle in handles:
            handle.remove()
    return found


def _of_rows(x: Tensor, count: int) -> bool:
    return bool(x.ndim) and len(x) == count and x.is_floating_point()


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether rows other than the first differ beyond rounding."""
    apart = (a[1:].double() - b[1:].double()).abs().max() if a.shape == b.shape else torch.tensor(0.0)
    return bool(apart > ROUNDING * a[1:].double().abs().max())
