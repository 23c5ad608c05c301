"""Calls the compiled dropout; ``cpu`` loads it."""

from __future__ import annotations

import torch
from torch import Tensor

from levelhead.ops import cpu

_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}  # of csrc/kernels.h


def serves(x: Tensor) -> bool:
    """Whether the compiled kernel can do this."""
    return cpu.PRESENT and x.device.type == "cpu" and x.dtype in _TYPES


def serves_rows(length: int) -> bool:
    """Whether ``add_norm`` can do rows of this length."""
    return length > 0


def dropout(
    x: Tensor, residual: Tensor | None, state: Tensor, threshold: int, scale: float, shift: float, fill: float
) -> Tensor:
    """``philox.dropout``, bit for bit."""
    x, state = x.contiguous(), state.to("cpu").contiguous()
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    added = 0 if residual is None else residual.data_ptr()
    y = torch.empty_like(x)
    _run(x.data_ptr(), added, state, threshold, scale, shift, fill, y)
    return y


def noise(x: Tensor, state: Tensor, threshold: int, scale: float) -> Tensor:
    """The factor of each element of ``x``, which is contiguous: ``scale`` for what is kept, 0 for what is dropped."""
    y = torch.empty_like(x)
    _run(0, 0, state, threshold, scale, 0.0, 0.0, y)
    return y


def _run(
    x: int, residual: int, state: Tensor, threshold: int, scale: float, shift: float, fill: float, y: Tensor
) -> None:
    kind, n, threads = _TYPES[y.dtype], y.numel(), torch.get_num_threads()
    cpu._module.dropout(kind, n, state.data_ptr(), threshold, scale, shift, fill, threads, x, residual, y.data_ptr())


def add_norm(
    x: Tensor,
    residual: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    length: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norm over rows of ``length`` of ``s = philox.dropout(x, residual, ...)``, s, and its rows' mean and variance.

    All tensors are contiguous.
    """
    y, total = torch.empty_like(x), torch.empty_like(x)
    rows = x.numel() // length
    mean, var = torch.empty(rows, dtype=torch.float64), torch.empty(rows, dtype=torch.float64)
    inputs = (state.to("cpu").contiguous(), cpu._wide(weight, x), cpu._wide(bias, x))  # alive until the call ends
    at, *parameters = map(cpu._address, inputs)
    head = (_TYPES[x.dtype], center, rows, length, eps, _threads(x), at, threshold, scale)
    tensors = (total, mean, var, y)
    addresses = (x.data_ptr(), residual.data_ptr(), *parameters, *map(cpu._address, tensors), 0, 0, 0, 0)
    cpu._module.dropout_norm(*head, *addresses)
    return y, total, mean, var


def add_norm_backward(
    dy: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    mean: Tensor,
    var: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    length: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of ``add_norm`` for x, residual, weight and bias, from those of the norm and of s (None for 0)."""
    dx, dresidual = torch.empty_like(total), torch.empty_like(total)
    wide = [cpu._wide(p, total) for p in (weight, bias)]
    sums = [None if p is None else torch.empty_like(p) for p in wide]
    dy, dtotal = dy.to(total.dtype).contiguous(), None if dtotal is None else dtotal.to(total.dtype).contiguous()
    state = state.to("cpu").contiguous()
    head = (_TYPES[total.dtype], center, mean.numel(), length, eps, _threads(total), state.data_ptr(), threshold, scale)
    tensors = (dresidual, None, *wide, total, mean, var, dx, dy, dtotal, *sums)
    cpu._module.dropout_norm(*head, *map(cpu._address, tensors))
    dweight, dbias = (
        None if s is None or p is None else s.to(p.dtype) for s, p in zip(sums, (weight, bias), strict=True)
    )
    return dx, dresidual, dweight, dbias


def _threads(x: Tensor) -> int:
    return min(torch.get_num_threads(), 1 + x.numel() // cpu._WORK)
