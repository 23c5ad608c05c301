"""Dropout, the sum with a residual, and the layer or RMS norm behind it, as one step of autograd.

In the kernels each tensor crosses the memory once a way: forward reads the input and the residual and writes the sum
and its norm; backward reads the sum and the gradients of both and writes two. Where no kernel serves, the parts run one
by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from levelhead.ops import dropout_operator, library, philox, reference
from levelhead.ops.philox import Noise
from levelhead.ops.spec import Norm

#: From here on a block of the generator has a number of two words, which the kernel does not count.
_MOST = 2**35


def serves(x: Tensor, residual: Tensor, shape: Sequence[int], *parameters: Tensor | None) -> bool:
    """Whether a kernel can do this; what it cannot do, and every mistake, is for the parts."""
    if library.backend_for(x) not in ("cpu", "triton") or not library.eager(x, residual):
        return False
    kernels = dropout_operator.kernels_for(x)
    if kernels is philox or not kernels.serves_rows(math.prod(shape)):
        return False
    wide = torch.promote_types(x.dtype, torch.float32)
    return (
        0 < x.numel() < _MOST
        and residual.shape == x.shape
        and residual.dtype == x.dtype
        and residual.device == x.device
        and x.is_contiguous()
        and residual.is_contiguous()
        and 0 < len(shape) <= x.ndim
        and x.shape[x.ndim - len(shape) :] == tuple(shape)
        and all(
            p is None or (p.shape == tuple(shape) and p.dtype in (x.dtype, wide) and p.device == x.device)
            for p in parameters
        )
    )


def dropout_add_norm(
    x: Tensor, residual: Tensor, noise: Noise, weight: Tensor | None, bias: Tensor | None, norm: Norm
) -> tuple[Tensor, Tensor]:
    """``(norm(s), s)`` with ``s = philox.dropout(x, residual, noise)``, where ``serves`` says so."""
    if library.differentiated(x, residual, weight, bias):
        results = _Together.apply(x, residual, noise, weight, bias, norm)  # type: ignore[no-untyped-call]
        return cast(tuple[Tensor, Tensor], results)
    y, total, _ = dropout_operator.kernels_for(x).add_norm(x, residual, noise, weight, bias, norm)
    return y, total


class _Together(torch.autograd.Function):
    """Saves the sum, two statistics a row and the two numbers of the mask."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        y, total, stats = dropout_operator.kernels_for(inputs[0]).add_norm(*inputs)
        _, _, (state, *ctx.rates), weight, bias, ctx.norm = inputs
        ctx.save_for_backward(total, stats, state, weight, bias)
        ctx.set_materialize_grads(False)
        return y, total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        dy, dtotal = gradients
        total, stats, state, weight, bias = ctx.saved_tensors
        noise = Noise(state, *ctx.rates)
        dweight = dbias = None
        if dy is None or torch.is_grad_enabled() or not library.eager(dy):
            if dy is not None:  # in plain PyTorch, which can be differentiated again
                again = reference.statistics(total, ctx.norm)
                dsum, dweight, dbias, _ = reference.backward(dy, total, weight, bias, None, ctx.norm, again)
                dtotal = dsum if dtotal is None else dsum + dtotal
            dx = None if dtotal is None else dropout_operator.dropout(dtotal, None, noise)
        else:
            dx, dtotal, dweight, dbias = dropout_operator.kernels_for(total).add_norm_backward(
                dy, dtotal, total, stats, noise, weight, bias, ctx.norm
            )
        return dx, dtotal, None, dweight, dbias, None
