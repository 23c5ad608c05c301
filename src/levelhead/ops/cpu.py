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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from levelhead.ops import reference, spec
from levelhead.ops.philox import Noise
from levelhead.ops.spec import Norm

_Maybe = Tensor | None

_KNOWN = ("baseline", "avx2", "avx512")
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_ACTIVATIONS = {name: number for number, name in enumerate(reference.ACTIVATIONS)}

#: Fewer elements than this a thread are not worth its start; a set of statistics costs as much as so many.
_WORK, _SET = 2**16, 32


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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call with tensors of one shape, one layout and one type needs; see ``plan``."""

    norm: Norm
    run: Any  # a Plan of csrc/bind.cpp
    fits: bool  # else tensors are copied into a form of the kernels
    stats: Tensor  # of the shape of all statistics together, without memory
    wide: torch.dtype  # the type that is calculated in, and that the kernels want parameters in

    def forward(
        self,
        x: Tensor,
        weight: _Maybe,
        bias: _Maybe,
        residual: _Maybe,
        stats: _Maybe = None,
        overwrite: bool = False,
        mask: _Maybe = None,
    ) -> tuple[Tensor, Tensor]:
        """The result and the statistics (float64), which are taken or given.

        ``mask``, boolean and of the shape of ``x``, belongs to a norm that is ``masked``.
        ``overwrite`` puts the result into ``x`` where it lies in memory in a form of the kernels.
        """
        laid = x if self.fits else spec.arranged(x, self.norm)
        if mask is not None or self.norm.masked:
            mask = self._checked(mask, laid)
        residual = None if residual is None else spec.like(residual, laid)
        stats = _new(self.stats) if stats is None else stats.double().contiguous()
        y = laid if overwrite and self.fits else torch.empty_like(laid)
        self.run.forward(laid, residual, _ready(weight, self.wide), _ready(bias, self.wide), stats, y, mask)
        return y if self.fits else spec.back(y, x, self.norm), stats

    def backward(
        self,
        dy: Tensor,
        x: Tensor,
        weight: _Maybe,
        bias: _Maybe,
        residual: _Maybe,
        stats: Tensor,
        from_output: bool = False,
        mask: _Maybe = None,
    ) -> tuple[_Maybe, ...]:
        """The gradients of x, weight, bias and residual (None for what was None).

        With ``from_output`` the argument x is what the forward pass of batch norm gave; see ``inplace``.
        """
        laid = x if self.fits else spec.arranged(x, self.norm)
        if mask is not None or self.norm.masked:
            mask = self._checked(mask, laid)
        dx, beside, dresidual = torch.empty_like(laid), None, None
        if residual is not None:
            beside, dresidual = spec.like(residual, laid), torch.empty_like(laid)
        w, b = _ready(weight, self.wide), _ready(bias, self.wide)
        dw, db = _gradient(w), _gradient(b)
        above = spec.like(dy, laid)
        self.run.backward(
            laid, beside, w, b, _ready(stats, torch.float64), above, dx, dresidual, dw, db, mask, from_output
        )
        return (
            dx if self.fits else spec.back(dx, x, self.norm),
            _as(dw, weight),
            _as(db, bias),
            None if dresidual is None or residual is None else spec.like(dresidual, residual),
        )

    def _checked(self, mask: _Maybe, laid: Tensor) -> Tensor:
        if mask is None or not self.norm.masked:
            raise ValueError(f"{self.norm} wants {'a' if self.norm.masked else 'no'} mask")
        return spec.like(mask, laid, torch.bool)


def plan(x: Tensor, norm: Norm) -> Plan | None:
    """The plan for ``x``; None where the kernels cannot serve."""
    if not PRESENT or not x.is_cpu:
        return None
    return _plan(norm, x.shape, x.stride(), x.dtype, torch.get_num_threads())


@functools.lru_cache(maxsize=4096)
def _plan(norm: Norm, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, threads: int) -> Plan | None:
    size = math.prod(shape)
    if not size or dtype not in _TYPES:
        return None
    x = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    copy, found = spec.laid(x, norm)
    if found is None:
        return None
    layout, across, *sizes = found
    head = (layout, _TYPES[dtype], _ACTIVATIONS[norm.activation], across, norm.center, norm.over == "given")
    work = size + _SET * math.prod(norm.shape(shape))
    run = _module.Plan(*head, *sizes, norm.eps, min(threads, 1 + work // _WORK))
    stats = torch.empty((), dtype=torch.float64, device="cpu").expand(3 if norm.masked else 2, *norm.shape(shape))
    return Plan(norm, run, copy is x, stats, torch.float64 if dtype == torch.float64 else torch.float32)


def _new(like: Tensor) -> Tensor:
    # Not torch.empty: results are made by empty_like too, and one function is in the caches sooner than two.
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _ready(t: _Maybe, dtype: torch.dtype) -> _Maybe:
    """A parameter or statistics as the kernels read them."""
    return t if t is None or (t.dtype == dtype and t.is_contiguous()) else t.to(dtype).contiguous()


def _gradient(parameter: _Maybe) -> _Maybe:
    return None if parameter is None else torch.empty_like(parameter)


def _as(gradient: _Maybe, parameter: _Maybe) -> _Maybe:
    """The gradient in the type of the parameter that was given."""
    if gradient is None or parameter is None or gradient.dtype == parameter.dtype:
        return gradient
    return gradient.to(parameter.dtype)


def track(running_mean: Tensor, running_var: Tensor, stats: Tensor, momentum: float, correction: float) -> bool:
    """Move running estimates towards a batch's mean and ``correction`` times its variance; False where it cannot."""
    dtype = running_mean.dtype
    if (
        not PRESENT
        or not all(type(t) is Tensor and t.is_cpu and t.is_contiguous() for t in (running_mean, running_var, stats))
        or dtype not in (torch.float32, torch.float64)
        or running_var.dtype != dtype
        or stats.dtype != torch.float64
    ):
        return False
    wide, channels = dtype == torch.float64, running_mean.numel()
    _module.track(wide, channels, momentum, correction, stats, running_mean, running_var)
    torch.autograd.graph.increment_version((running_mean, running_var))
    return True


def dropout(x: Tensor, residual: _Maybe, noise: Noise) -> Tensor:
    """``philox.dropout``, bit for bit."""
    x = x.contiguous()
    return _drop(x, None if residual is None else residual.to(x.dtype).contiguous(), noise, torch.empty_like(x))


def factors(noise: Noise, like: Tensor) -> Tensor:
    """The factor of each element of a contiguous tensor, in its type."""
    return _drop(None, None, noise, torch.empty_like(like))


def _drop(x: _Maybe, residual: _Maybe, noise: Noise, y: Tensor) -> Tensor:
    options = (_numbers(noise), *noise[1:], torch.get_num_threads())
    _module.dropout(_TYPES[y.dtype], y.numel(), *options, x, residual, y)
    return y


def _numbers(noise: Noise) -> Tensor:
    return noise.state.to("cpu").contiguous()


def serves_rows(length: int) -> bool:
    """Whether ``add_norm`` can do rows of this length."""
    return length > 0


def add_norm(
    x: Tensor, residual: Tensor, noise: Noise, weight: _Maybe, bias: _Maybe, norm: Norm
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of the rows of ``s = philox.dropout(x, residual, ...)``, s, and the statistics; all are contiguous."""
    found = plan(x, norm)
    assert found is not None
    y, total, stats = torch.empty_like(x), torch.empty_like(x), _new(found.stats)
    tensors = (x, residual, _ready(weight, found.wide), _ready(bias, found.wide), total, stats, y)
    found.run.dropout_norm(_numbers(noise), noise.threshold, noise.scale, *tensors, None, None, None, None)
    return y, total, stats


def add_norm_backward(
    dy: Tensor,
    dtotal: _Maybe,
    total: Tensor,
    stats: Tensor,
    noise: Noise,
    weight: _Maybe,
    bias: _Maybe,
    norm: Norm,
) -> tuple[_Maybe, ...]:
    """The gradients of ``add_norm`` for x, residual, weight and bias, from those of the norm and of s (None for 0)."""
    found = plan(total, norm)
    assert found is not None
    dx, dresidual = torch.empty_like(total), torch.empty_like(total)
    w, b = _ready(weight, found.wide), _ready(bias, found.wide)
    dw, db = _gradient(w), _gradient(b)
    dtotal = None if dtotal is None else spec.like(dtotal, total)
    tensors = (dresidual, None, w, b, total, stats, dx, spec.like(dy, total), dtotal, dw, db)
    found.run.dropout_norm(_numbers(noise), noise.threshold, noise.scale, *tensors)
    return dx, dresidual, _as(dw, weight), _as(db, bias)
