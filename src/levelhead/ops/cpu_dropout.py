"""Calls the compiled dropout; ``cpu`` loads it."""

from __future__ import annotations

import torch
from torch import Tensor

from levelhead.ops import cpu

_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}  # of csrc/kernels.h


def serves(x: Tensor) -> bool:
    """Whether the compiled kernel can do this."""
    return cpu.PRESENT and x.device.type == "cpu" and x.dtype in _TYPES


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
    """The factor of each element of ``x``, contiguous: ``scale`` for what is kept and 0 for what is dropped."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _run(0, 0, state, threshold, scale, 0.0, 0.0, y)
    return y


def _run(
    x: int, residual: int, state: Tensor, threshold: int, scale: float, shift: float, fill: float, y: Tensor
) -> None:
    kind, n, threads = _TYPES[y.dtype], y.numel(), torch.get_num_threads()
    cpu._module.dropout(kind, n, state.data_ptr(), threshold, scale, shift, fill, threads, x, residual, y.data_ptr())
