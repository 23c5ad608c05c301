"""The compiled CPU kernels: loads them, says why where they are absent, and calls them with the reference's arguments.

``layouts`` says which of the three forms of ``csrc/kernels.h`` (planes, columns, rows) the tensor has in memory. The
instruction set is the best that the CPU has; ``LEVELHEAD_CPU=baseline|avx2|avx512`` forces one, and is read once, at
import.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch import Tensor

from levelhead.ops import layouts, reference
from levelhead.ops.layouts import Plan
from levelhead.ops.reference import Dims

_KNOWN = ("baseline", "avx2", "avx512")
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_ACTIVATIONS = {name: number for number, name in enumerate(reference.ACTIVATIONS)}

#: Fewer elements than this a thread are not worth its start.
_WORK = 2**14


def _load() -> tuple[Any, str]:
    """The module, or None and why."""
    name = os.environ.get("LEVELHEAD_CPU")
    if name and name not in _KNOWN:
        raise ValueError(f"LEVELHEAD_CPU={name!r} is not an instruction set; choose one of {', '.join(_KNOWN)}")
    try:
        _kernels = importlib.import_module("levelhead.ops._kernels")
    except ImportError as error:
        if name:
            raise RuntimeError(f"LEVELHEAD_CPU={name} cannot be served: the compiled kernels are absent") from error
        return None, f"the compiled kernels are absent ({error}); reinstall levelhead where a C++ compiler is"
    if name and name not in _kernels.instruction_sets():
        has = ", ".join(_kernels.instruction_sets())
        raise RuntimeError(
            f"LEVELHEAD_CPU={name} cannot be served: this CPU and build have {has}; unset it, or use one"
        )
    if name:
        _kernels.use(name)
    return _kernels, ""


_module, ABSENT = _load()
PRESENT = _module is not None


def instruction_set() -> str | None:
    """Which instruction set's kernels run: "baseline", "avx2" or "avx512"; None where there are none."""
    return _module.instruction_set() if PRESENT else None


def _planned(x: Tensor, dims: Dims, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Plan | None]:
    """``x``, copied if it must be, and its plan; None where the kernels cannot serve."""
    if not PRESENT or x.device.type != "cpu" or x.dtype not in _TYPES or x.numel() == 0:
        return x, None
    return layouts.planned(x, dims, weight, bias)


def _wide(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    """A parameter in the type that ``x`` is calculated in."""
    if parameter is None:
        return None
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (parameter if parameter.dtype == dtype else parameter.to(dtype)).contiguous()


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _head(x: Tensor, form: Plan, center: bool, given: bool, eps: float, activation: str) -> tuple[Any, ...]:
    """The arguments that come first in every call of the module."""
    threads = min(torch.get_num_threads(), 1 + x.numel() // _WORK)
    layout, across, *sizes = form
    return layout, _TYPES[x.dtype], _ACTIVATIONS[activation], across, center, given, *sizes, eps, threads


def normalize(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The result, the mean and the biased variance (float64); None where the kernels cannot serve.

    ``overwrite`` puts the result into ``x`` where it lies in memory in a form of the kernels.
    """
    planned, form = _planned(x, dims, weight, bias)
    if form is None:
        return None
    axes = {d % x.ndim for d in dims}
    shape = [1 if d in axes else size for d, size in enumerate(x.shape)]
    mean, var = torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.float64)
    y = _forward(x, planned, form, mean, var, weight, bias, residual, eps, activation, center, False, overwrite)
    return y, mean, var


def track(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, momentum: float, correction: float
) -> bool:
    """Move running estimates towards a batch's mean and ``correction`` times its variance; False where it cannot."""
    if torch.compiler.is_compiling() or not PRESENT:
        return False
    dtype = running_mean.dtype
    if (
        torch._C._len_torch_dispatch_stack()
        or not all(type(t) is Tensor and t.is_cpu and t.is_contiguous() for t in (running_mean, running_var, mean, var))
        or dtype not in (torch.float32, torch.float64)
        or running_var.dtype != dtype
        or mean.dtype != torch.float64
    ):
        return False
    addresses = map(_address, (mean, var, running_mean, running_var))
    _module.track(dtype == torch.float64, mean.numel(), momentum, correction, *addresses)
    torch.autograd.graph.increment_version((running_mean, running_var))
    return True


def standardize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    overwrite: bool = False,
) -> Tensor | None:
    """The result with given statistics, one a channel; None where the kernels cannot serve."""
    given = layouts.given(x, mean, var)
    if given is None:
        return None
    mean, var, dims = given
    planned, form = _planned(x, dims, weight, bias)
    if form is None:
        return None
    return _forward(x, planned, form, mean, var, weight, bias, residual, eps, activation, True, True, overwrite)


def _forward(
    x: Tensor,
    planned: Tensor,
    form: Plan,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    center: bool,
    given: bool,
    overwrite: bool,
) -> Tensor:
    y = x if overwrite and planned is x else torch.empty_like(planned)
    residual = None if residual is None else layouts.like(residual, planned)
    tensors = (planned, residual, _wide(weight, x), _wide(bias, x), mean, var, y)  # alive until the call ends
    _module.forward(*_head(x, form, center, given, eps, activation), *map(_address, tensors))
    return layouts.back(y, x, planned)


def normalize_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    dims: Dims | None,
    center: bool,
    from_output: bool = False,
) -> tuple[Tensor | None, ...] | None:
    """The gradients of x, weight, bias and residual (None for what was None); None where the kernels cannot serve.

    With ``from_output`` the argument x is what the forward pass of batch norm gave; see ``inplace``.
    """
    constant = dims is None
    if dims is None:
        given = layouts.given(x, mean, var)
        if given is None:
            return None
        mean, var, dims = given
    planned, form = _planned(x, dims, weight, bias)
    if form is None:
        return None
    mean, var = mean.double().contiguous(), var.double().contiguous()  # an operator may be called with any
    dx = torch.empty_like(planned)
    dresidual = None if residual is None else torch.empty_like(planned)
    wide_weight, wide_bias = _wide(weight, x), _wide(bias, x)
    dweight = None if wide_weight is None else torch.empty_like(wide_weight)
    dbias = None if wide_bias is None else torch.empty_like(wide_bias)
    like_residual = None if residual is None else layouts.like(residual, planned)
    # Named, so that they are alive until the call ends.
    inputs = (planned, like_residual, wide_weight, wide_bias, mean, var, layouts.like(dy, planned))
    addresses = map(_address, (*inputs, dx, dresidual, dweight, dbias))
    _module.backward(*_head(x, form, center, constant, eps, activation), *addresses, from_output)
    return (
        layouts.back(dx, x, planned),
        None if dweight is None or weight is None else dweight.to(weight.dtype),
        None if dbias is None or bias is None else dbias.to(bias.dtype),
        None if dresidual is None or residual is None else layouts.like(dresidual, residual),
    )
