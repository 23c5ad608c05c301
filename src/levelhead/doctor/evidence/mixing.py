"""Whether the rows of a batch are mixed: one row is changed, and the other rows' outputs are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence.structure import BATCH_NORM
from levelhead.doctor.program import first_tensor, forward

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
    given = _rows(inputs, len(first) if first is not None else 0, count)
    changed = _changed(given, count)
    plain, again, other = (_traced(model, each, count) for each in (given, given, changed))
    output = plain[-1][1] if plain else None
    if output is None or output.ndim in (0, 3) or (output.ndim == 2 and output.shape[1] == count):
        return None
    if len(plain) != len(other) or _differ(plain[-1][1], again[-1][1]) or not _differ(plain[-1][1], other[-1][1]):
        return None
    return next(name for (name, a), (_, b) in zip(plain, other, strict=True) if _differ(a, b))


def _rows(value: Any, whole: int, count: int) -> Any:
    """The first rows of every tensor that has as many rows as the batch."""
    if isinstance(value, Tensor):
        return value[:count].clone() if value.ndim and len(value) == whole else value
    if isinstance(value, Mapping):
        return {name: _rows(item, whole, count) for name, item in value.items()}
    return type(value)(_rows(item, whole, count) for item in value) if isinstance(value, list | tuple) else value


def _changed(value: Any, count: int) -> Any:
    """The same with the last row in the place of the first."""
    if isinstance(value, Tensor):
        if not value.ndim or len(value) != count:
            return value
        twin = value.clone()
        twin[0] = value[-1]
        return twin
    if isinstance(value, Mapping):
        return {name: _changed(item, count) for name, item in value.items()}
    return type(value)(_changed(item, count) for item in value) if isinstance(value, list | tuple) else value


def _traced(model: nn.Module, inputs: Any, count: int) -> list[tuple[str, Tensor]]:
    """What modules without children and, last, the model gave, as far as it has a row for each row."""
    found: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Any:
        def ran(module: nn.Module, args: Any, output: Any) -> None:
            made = first_tensor(output)
            if made is not None and made.ndim and len(made) == count and made.is_floating_point():
                found.append((name, made.detach().clone()))

        return ran

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            made = first_tensor(forward(model, inputs))
    finally:
        for handle in handles:
            handle.remove()
    last = found[-1][0] if found else ""
    return [*found, (last, made)] if made is not None and made.ndim and len(made) == count else []


def _differ(a: Tensor, b: Tensor) -> bool:
    """Whether rows other than the first differ beyond rounding."""
    apart = (a[1:].double() - b[1:].double()).abs().max() if a.shape == b.shape else torch.tensor(0.0)
    return bool(apart > ROUNDING * a[1:].double().abs().max())
