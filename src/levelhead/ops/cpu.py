"""The compiled CPU kernels: loads them, says why where they are absent, and calls them.

``spec.layout`` says which of the three forms of ``csrc/kernels.h`` (planes, columns, rows) a tensor has in memory; what
has none is copied into one. A call is planned once for a norm, shape, strides and type. The instruction set is the best
that the CPU has; ``LEVELHEAD_CPU=baseline|avx2|avx512`` forces one, and is read once, at import.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelhead.ops import reference, spec
from levelhead.ops.spec import Norm

_KNOWN = ("baseline", "avx2", "avx512")
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_ACTIVATIONS = {name: number for number, name in enumerate(reference.ACTIVATIONS)}

#: Fewer elements than this a thread are not worth its start.
_WORK = 2**16


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
    if not hasattr(_kernels, "Plan"):
        return None, "the compiled kernels are of an older version; reinstall levelhead where a C++ compiler is"
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


def serves(x: Tensor) -> bool:
    """Whether ``x`` is where the kernels run, of a type that they know."""
    return PRESENT and x.is_cpu and x.dtype in _TYPES


class Plan(NamedTuple):
    """What a call with tensors of one shape and type needs."""

    run: Any  # a Plan of csrc/bind.cpp
    stats: tuple[int, ...]  # the shape of mean and variance together
    wide: torch.dtype  # the type that is calculated in, and that the kernels want parameters in


@functools.lru_cache(maxsize=4096)
def _plan(norm: Norm, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, threads: int) -> Plan | None:
    found = spec.layout(norm, shape, stride)
    size = math.prod(shape)
    if found is None or not size or dtype not in _TYPES:
        return None
    layout, across, *sizes = found
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    head = (layout, _TYPES[dtype], _ACTIVATIONS[norm.activation], across, norm.center, norm.over == "given")
    run = _module.Plan(*head, *sizes, norm.eps, min(threads, 1 + size // _WORK))
    return Plan(run, (3 if norm.masked else 2, *norm.shape(shape)), wide)


def _planned(x: Tensor, norm: Norm) -> tuple[Tensor, Plan | None]:
    """``x``, copied if it must be, and its plan; None where the kernels cannot serve."""
    if not PRESENT or not x.is_cpu:
        return x, None
    threads = torch.get_num_threads()
    plan = _plan(norm, x.shape, x.stride(), x.dtype, threads)
    if plan is None and x.dtype in _TYPES and x.numel():
        x = spec.arranged(x, norm)
        plan = _plan(norm, x.shape, x.stride(), x.dtype, threads)
    return x, plan


def _ready(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A parameter or statistics as the kernels read them."""
    if t is None or (t.dtype == dtype and t.is_contiguous()):
        return t
    return t.to(dtype).contiguous()


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    norm: Norm,
    stats: Tensor | None = None,
    overwrite: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """The result and the statistics (float64), which are taken or given; None where the kernels cannot serve.

    ``mask``, boolean and of the shape of ``x``, belongs to a norm that is ``masked``.
    ``overwrite`` puts the result into ``x`` where it lies in memory in a form of the kernels.
    """
    laid, plan = _planned(x, norm)
    if plan is None or norm.masked != (mask is not None):
        return None
    # All are named here, so that they are alive until the call ends.
    weight, bias = _ready(weight, plan.wide), _ready(bias, plan.wide)
    residual = None if residual is None else spec.like(residual, laid)
    stats = torch.empty(plan.stats, dtype=torch.float64) if stats is None else _ready(stats, torch.float64)
    assert stats is not None
    y = laid if overwrite and laid is x else torch.empty_like(laid)
    mask = None if mask is None else spec.like(mask, laid, torch.bool)
    plan.run.forward(
        *(laid.data_ptr(), _address(residual), _address(weight), _address(bias), stats.data_ptr(), y.data_ptr()),
        _address(mask),
    )
    return spec.back(y, x, norm), stats


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    norm: Norm,
    stats: Tensor,
    from_output: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor | None, ...] | None:
    """The gradients of x, weight, bias and residual (None for what was None); None where the kernels cannot serve.

    With ``from_output`` the argument x is what the forward pass of batch norm gave; see ``inplace``.
    """
    laid, plan = _planned(x, norm)
    if plan is None or norm.masked != (mask is not None):
        return None
    wide_weight, wide_bias = _ready(weight, plan.wide), _ready(bias, plan.wide)
    beside = None if residual is None else spec.like(residual, laid)
    above, kept = spec.like(dy, laid), _ready(stats, torch.float64)
    dx = torch.empty_like(laid)
    dresidual = None if residual is None else torch.empty_like(laid)
    dweight = None if wide_weight is None else torch.empty_like(wide_weight)
    dbias = None if wide_bias is None else torch.empty_like(wide_bias)
    mask = None if mask is None else spec.like(mask, laid, torch.bool)
    plan.run.backward(
        *(laid.data_ptr(), _address(beside), _address(wide_weight), _address(wide_bias), _address(kept)),
        *(above.data_ptr(), dx.data_ptr(), _address(dresidual), _address(dweight), _address(dbias)),
        *(_address(mask), from_output),
    )
    return (
        spec.back(dx, x, norm),
        dweight if weight is None or dweight is None else dweight.to(weight.dtype),
        dbias if bias is None or dbias is None else dbias.to(bias.dtype),
        None if dresidual is None or residual is None else spec.like(dresidual, residual),
    )


def track(running_mean: Tensor, running_var: Tensor, stats: Tensor, momentum: float, correction: float) -> bool:
    """Move running estimates towards a batch's mean and ``correction`` times its variance; False where it cannot."""
    dtype = running_mean.dtype
    if (
        not PRESENT
        or torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or not all(type(t) is Tensor and t.is_cpu and t.is_contiguous() for t in (running_mean, running_var, stats))
        or dtype not in (torch.float32, torch.float64)
        or running_var.dtype != dtype
        or stats.dtype != torch.float64
    ):
        return False
    addresses = (stats.data_ptr(), running_mean.data_ptr(), running_var.data_ptr())
    _module.track(dtype == torch.float64, running_mean.numel(), momentum, correction, *addresses)
    torch.autograd.graph.increment_version((running_mean, running_var))
    return True


def dropout(
    x: Tensor, residual: Tensor | None, state: Tensor, threshold: int, scale: float, shift: float, fill: float
) -> Tensor:
    """``philox.dropout``, bit for bit."""
    x, state = x.contiguous(), state.to("cpu").contiguous()
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    y = torch.empty_like(x)
    _drop(x.data_ptr(), _address(residual), state, threshold, scale, shift, fill, y)
    return y


def noise(x: Tensor, state: Tensor, threshold: int, scale: float) -> Tensor:
    """The factor of each element of ``x``, which is contiguous: ``scale`` for what is kept, 0 for what is dropped."""
    y = torch.empty_like(x)
    _drop(0, 0, state, threshold, scale, 0.0, 0.0, y)
    return y


def _drop(
    x: int, residual: int, state: Tensor, threshold: int, scale: float, shift: float, fill: float, y: Tensor
) -> None:
    kind, n, threads = _TYPES[y.dtype], y.numel(), torch.get_num_threads()
    _module.dropout(kind, n, state.data_ptr(), threshold, scale, shift, fill, threads, x, residual, y.data_ptr())


def serves_rows(length: int) -> bool:
    """Whether ``add_norm`` can do rows of this length."""
    return length > 0


def add_norm(
    x: Tensor,
    residual: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    weight: Tensor | None,
    bias: Tensor | None,
    norm: Norm,
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of the rows of ``s = philox.dropout(x, residual, ...)``, s, and the statistics; all are contiguous."""
    _, plan = _planned(x, norm)
    assert plan is not None
    y, total = torch.empty_like(x), torch.empty_like(x)
    stats = torch.empty(plan.stats, dtype=torch.float64)
    at, *parameters = state.to("cpu").contiguous(), _ready(weight, plan.wide), _ready(bias, plan.wide)
    tensors = (x, residual, *parameters, total, stats, y)
    plan.run.dropout_norm(at.data_ptr(), threshold, scale, *map(_address, tensors), 0, 0, 0, 0)
    return y, total, stats


def add_norm_backward(
    dy: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    stats: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    weight: Tensor | None,
    bias: Tensor | None,
    norm: Norm,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of ``add_norm`` for x, residual, weight and bias, from those of the norm and of s (None for 0)."""
    _, plan = _planned(total, norm)
    assert plan is not None
    dx, dresidual = torch.empty_like(total), torch.empty_like(total)
    wide = [_ready(p, plan.wide) for p in (weight, bias)]
    sums = [None if p is None else torch.empty_like(p) for p in wide]
    dy, dtotal = dy.to(total.dtype).contiguous(), None if dtotal is None else dtotal.to(total.dtype).contiguous()
    state = state.to("cpu").contiguous()
    tensors = (dresidual, None, *wide, total, stats, dx, dy, dtotal, *sums)
    plan.run.dropout_norm(state.data_ptr(), threshold, scale, *map(_address, tensors))
    dweight, dbias = (
        None if s is None or p is None else s.to(p.dtype) for s, p in zip(sums, (weight, bias), strict=True)
    )
    return dx, dresidual, dweight, dbias
