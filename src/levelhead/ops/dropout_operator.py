"""The operator behind every dropout of elements: ``levelhead::dropout``, and which backend runs it.

``philox.dropout`` says what it calculates. It is linear in ``x``, so its gradient is itself, and the mask is made anew
in the backward pass from the two numbers of ``state``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from levelhead.ops import cpu, library, philox, triton
from levelhead.ops.philox import Noise

#: The most elements for which PyTorch multiplies by a stored mask, as its autograd costs less than ours.
SMALL_MASK = 2**16


def dropout(x: Tensor, residual: Tensor | None, noise: Noise) -> Tensor:
    """``x * factor + offset``; see ``philox.dropout``."""
    if library.transformed():
        return philox.dropout(x, residual, noise)
    if not library.eager(x) or type(noise.state) is not Tensor:
        return cast(Tensor, torch.ops.levelhead.dropout(x, residual, *noise))
    if not library.differentiated(x, residual):
        return _dropout(x, residual, *noise)
    wide = x.dtype in (torch.float32, torch.float64)  # else the factor would be rounded, and then the product
    if x.numel() <= SMALL_MASK and wide and not noise.fill and x.is_contiguous() and kernels_for(x) is cpu:
        y = x * cpu.factors(noise, x)
        return y if residual is None else y + residual
    return cast(Tensor, _Direct.apply(x, residual, *noise))  # type: ignore[no-untyped-call]


def _dropout(x: Tensor, residual: Tensor | None, *noise: Any) -> Tensor:
    return cast(Tensor, kernels_for(x).dropout(x, residual, Noise(*noise)))


def kernels_for(x: Tensor) -> ModuleType:
    """What runs dropout on ``x``: ``cpu``, ``triton.dropout``, or ``philox`` where neither can."""
    if library.FORCED in (None, "cpu") and cpu.serves(x):
        return cpu
    if library.FORCED in (None, "triton") and triton.serves(x) and x.dtype != torch.float64:
        return importlib.import_module("levelhead.ops.triton.dropout")
    if library.FORCED in (None, "reference") or not x.numel():
        return philox
    raise RuntimeError(
        f"LEVELHEAD_BACKEND={library.FORCED} cannot serve the dropout of a {x.dtype} on {x.device}; unset it, or use"
        " reference"
    )


def _fake(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, residual, state, *ctx.rates = inputs
    ctx.added = residual is not None
    ctx.save_for_backward(state)


def _gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    noise = Noise(*ctx.saved_tensors, *ctx.rates[:2])  # what is added has no part in the gradient
    dx = dropout(dy, None, noise) if ctx.needs_input_grad[0] else None
    return dx, dy if ctx.added else None, *[None] * len(Noise._fields)


class _Direct(torch.autograd.Function):
    """``levelhead::dropout`` without the machinery of torch.library, which costs more than a medium input's work."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _dropout(*inputs)
        _save(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, *gradients)


library.register(
    "dropout",
    "(Tensor x, Tensor? residual, Tensor state, int threshold, float scale, float shift, float fill) -> Tensor",
    _dropout,
    _fake,
    _gradients,
    _save,
    seen_through=True,
)
