"""The compiled CPU kernels: loads them, says why where they are absent, and calls them with the reference's arguments.

A call is planned once per layout: which of the three forms of ``csrc/kernels.h`` (planes, columns, rows) the tensor
has in memory. What lies in memory in no such form is copied into one. The instruction set is the best that the CPU
has; ``LEVELHEAD_CPU=baseline|avx2|avx512`` forces one, and is read once, at import.
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelhead.ops import reference
from levelhead.ops.reference import Dims

_KNOWN = ("baseline", "avx2", "avx512")
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_ACTIVATIONS = {name: number for number, name in enumerate(reference.ACTIVATIONS)}
_PLANES, _COLUMNS, _ROWS = range(3)

#: Fewer elements than this a thread are not worth its start.
_WORK = 2**14


def _load() -> tuple[Any, str]:
    """The module, or None and why."""
    name = os.environ.get("LEVELHEAD_CPU")
    if name and name not in _KNOWN:
        raise ValueError(f"LEVELHEAD_CPU={name!r} is not an instruction set; choose one of {', '.join(_KNOWN)}")
    try:
        from levelhead.ops import _kernels  # type: ignore[attr-defined]
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


class Plan(NamedTuple):
    """How a tensor lies in memory, in the terms of ``csrc/kernels.h``."""

    layout: int
    across: bool
    n: int
    c: int
    l: int  # noqa: E741  (the length, as there)
    groups: int


@functools.lru_cache(maxsize=4096)
def plan(
    shape: tuple[int, ...], stride: tuple[int, ...], dims: tuple[int, ...], parameter: tuple[int, ...] | None
) -> Plan | None:
    """The form of a tensor normalized over ``dims`` with parameters of that shape; None if it has none of them."""
    ndim = len(shape)
    dims = tuple(sorted(d % ndim for d in dims))
    in_order = _dense(shape, stride, range(ndim))
    if ndim >= 2 and dims == (0, *range(2, ndim)):
        if parameter not in (None, (1, shape[1], *[1] * (ndim - 2))):
            return None
        positions = math.prod(shape[2:])
        if in_order and positions > 1:
            return Plan(_PLANES, True, shape[0], shape[1], positions, 1)
        if in_order or _dense(shape, stride, (0, *range(2, ndim), 1)):
            return Plan(_COLUMNS, True, 1, shape[1], shape[0] * positions, 1)
        return None
    first = ndim - len(dims)
    if not dims or dims != tuple(range(first, ndim)):
        return None
    if in_order and parameter in (None, shape[first:]):
        return Plan(_ROWS, False, math.prod(shape[:first]), 1, math.prod(shape[first:]), 1)
    if first != 2:
        return None
    for last in (2, 3):  # instance norm: axis 1 is the channels; group norm: axes 1 and 2 are
        full = (1, *shape[1:last], *[1] * (ndim - last))
        if last > ndim or parameter not in (None, full, full[1:]):
            continue
        n, c, groups, positions = shape[0], math.prod(shape[1:last]), shape[1], math.prod(shape[last:])
        if in_order and positions > 1:
            return Plan(_PLANES, False, n, c, positions, groups)
        if in_order or _dense(shape, stride, (0, *range(last, ndim), *range(1, last))):
            return Plan(_COLUMNS, False, n, c, positions, groups)
    return None


def _dense(shape: tuple[int, ...], stride: tuple[int, ...], order: Any) -> bool:
    """Whether the axes in that order, the outermost first, fill memory without a gap."""
    expected = 1
    for axis in reversed(order):
        if shape[axis] != 1:
            if stride[axis] != expected:
                return False
            expected *= shape[axis]
    return True


def _planned(x: Tensor, dims: Dims, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Plan | None]:
    """``x``, copied if it must be, and its plan; None where the kernels cannot serve."""
    if not PRESENT or x.device.type != "cpu" or x.dtype not in _TYPES or x.numel() == 0:
        return x, None
    if weight is not None and bias is not None and weight.shape != bias.shape:
        return x, None
    some = weight if weight is not None else bias
    parameter = None if some is None else some.shape
    dims = tuple(dims)
    found = plan(x.shape, x.stride(), dims, parameter)
    if found is None:
        x = x.contiguous()
        found = plan(x.shape, x.stride(), dims, parameter)
    return x, found


def _given(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]] | None:
    """Statistics as the kernels want them and the dimensions they belong to; None if they are not one a channel."""
    if x.ndim < 2 or any(t.shape != (1, x.shape[1], *[1] * (x.ndim - 2)) for t in (mean, var)):
        return None
    return mean.double().contiguous(), var.double().contiguous(), (0, *range(2, x.ndim))


def _like(t: Tensor, x: Tensor) -> Tensor:
    """``t`` with the strides of ``x``."""
    return t if t.stride() == x.stride() and t.dtype == x.dtype else torch.empty_like(x).copy_(t)


def _back(y: Tensor, x: Tensor, planned: Tensor) -> Tensor:
    """``y``, made for the copy ``planned`` of ``x``, with the strides that ``torch.empty_like(x)`` has."""
    return y if x is planned else torch.empty_like(x).copy_(y)


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
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The result, the mean and the biased variance (float64); None where the kernels cannot serve."""
    planned, form = _planned(x, dims, weight, bias)
    if form is None:
        return None
    axes = {d % x.ndim for d in dims}
    shape = [1 if d in axes else size for d, size in enumerate(x.shape)]
    mean, var = torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.float64)
    return _forward(x, planned, form, mean, var, weight, bias, residual, eps, activation, center, False), mean, var


def standardize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
) -> Tensor | None:
    """The result with given statistics, one a channel; None where the kernels cannot serve."""
    given = _given(x, mean, var)
    if given is None:
        return None
    mean, var, dims = given
    planned, form = _planned(x, dims, weight, bias)
    if form is None:
        return None
    return _forward(x, planned, form, mean, var, weight, bias, residual, eps, activation, True, True)


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
) -> Tensor:
    y = torch.empty_like(planned)
    residual = None if residual is None else _like(residual, planned)
    tensors = (planned, residual, _wide(weight, x), _wide(bias, x), mean, var, y)  # alive until the call ends
    _module.forward(*_head(x, form, center, given, eps, activation), *map(_address, tensors))
    return _back(y, x, planned)


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
) -> tuple[Tensor | None, ...] | None:
    """The gradients of x, weight, bias and residual (None for what was None); None where the kernels cannot serve."""
    constant = dims is None
    if dims is None:
        given = _given(x, mean, var)
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
    like_residual = None if residual is None else _like(residual, planned)
    inputs = (
        planned,
        like_residual,
        wide_weight,
        wide_bias,
        mean,
        var,
        _like(dy, planned),
    )  # alive until the call ends
    outputs = (dx, dresidual, dweight, dbias)
    _module.backward(*_head(x, form, center, constant, eps, activation), *map(_address, (*inputs, *outputs)))
    return (
        _back(dx, x, planned),
        None if dweight is None or weight is None else dweight.to(weight.dtype),
        None if dbias is None or bias is None else dbias.to(bias.dtype),
        None if dresidual is None or residual is None else _like(dresidual, residual),
    )
