"""How tensors lie in memory, for the kernels of CPU and GPU: planes, columns or rows.

A call is planned once per layout. What lies in memory in no such form is copied into one.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelhead.ops.reference import Dims

PLANES, COLUMNS, ROWS = range(3)


class Plan(NamedTuple):
    """How a tensor lies in memory, in the terms of ``csrc/kernels.h`` and ``triton/norms.py``."""

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
    in_order = dense(shape, stride, range(ndim))
    if ndim >= 2 and dims == (0, *range(2, ndim)):
        if parameter not in (None, (1, shape[1], *[1] * (ndim - 2))):
            return None
        positions = math.prod(shape[2:])
        if in_order and positions > 1:
            return Plan(PLANES, True, shape[0], shape[1], positions, 1)
        if in_order or dense(shape, stride, (0, *range(2, ndim), 1)):
            return Plan(COLUMNS, True, 1, shape[1], shape[0] * positions, 1)
        return None
    first = ndim - len(dims)
    if not dims or dims != tuple(range(first, ndim)):
        return None
    if in_order and parameter in (None, shape[first:]):
        return Plan(ROWS, False, math.prod(shape[:first]), 1, math.prod(shape[first:]), 1)
    if first != 2:
        return None
    for last in (2, 3):  # instance norm: axis 1 is the channels; group norm: axes 1 and 2 are
        full = (1, *shape[1:last], *[1] * (ndim - last))
        if last > ndim or parameter not in (None, full, full[1:]):
            continue
        n, c, groups, positions = shape[0], math.prod(shape[1:last]), shape[1], math.prod(shape[last:])
        if in_order and positions > 1:
            return Plan(PLANES, False, n, c, positions, groups)
        if in_order or dense(shape, stride, (0, *range(last, ndim), *range(1, last))):
            return Plan(COLUMNS, False, n, c, positions, groups)
    return None


def dense(shape: tuple[int, ...], stride: tuple[int, ...], order: Any) -> bool:
    """Whether the axes in that order, the outermost first, fill memory without a gap."""
    expected = 1
    for axis in reversed(order):
        if shape[axis] != 1:
            if stride[axis] != expected:
                return False
            expected *= shape[axis]
    return True


def planned(x: Tensor, dims: Dims, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Plan | None]:
    """``x``, copied if it must be, and its plan; None where there is none."""
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


def given(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]] | None:
    """Statistics as the kernels want them and the dimensions they belong to; None if they are not one a channel."""
    if x.ndim < 2 or any(t.shape != (1, x.shape[1], *[1] * (x.ndim - 2)) for t in (mean, var)):
        return None
    return mean.double().contiguous(), var.double().contiguous(), (0, *range(2, x.ndim))


def like(t: Tensor, x: Tensor) -> Tensor:
    """``t`` with the strides of ``x``."""
    return t if t.stride() == x.stride() and t.dtype == x.dtype else torch.empty_like(x).copy_(t)


def back(y: Tensor, x: Tensor, planned: Tensor) -> Tensor:
    """``y``, made for the copy ``planned`` of ``x``, with the strides that ``torch.empty_like(x)`` has."""
    return y if x is planned else torch.empty_like(x).copy_(y)
