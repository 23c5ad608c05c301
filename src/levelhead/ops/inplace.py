r"""Batch norm that keeps its output alone: ``memory="inplace"``.

An activation that has an inverse gives u = z w + b back from y = a(u), and so z = (u - b) / w: the backward pass needs
neither x nor u. The next layer keeps y anyway, so one tensor a block is kept instead of two or three. Where x is an
intermediate result, y is written over it.

Results and gradients are those of ``memory=None``. Where y says too little about z in a channel, x is kept for that
channel alone: where |w| is 0 or small against |b| (the paper replaces w by |w| + ε there, which is another function),
and for elu where u falls below -7, for y is -1 then.

Source: Rota Bulò, Porzi & Kontschieder 2018, "In-Place Activated BatchNorm for Memory-Optimized Training of DNNs",
sections 3.1 and 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from levelhead.ops import library, reference
from levelhead.ops.spec import Norm

#: u from y, and the least slope, by which small values of u shrink.
INVERSES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "": (lambda y: y, 1.0),
    "leaky_relu": (lambda y: torch.where(y > 0, y, y / 0.01), 0.01),
    "elu": (lambda y: torch.where(y > 0, y, torch.log1p(y.clamp(max=0))), 1.0),
}


#: The largest |b| / |w|, by which z is less exact than y, and the least u of elu, where it is so by exp(-u): z is exact
#: to 2e-6 in float32, and for the one element in a billion with so low a u to 7e-5.
_STEEPEST, _LEAST = 32.0, -7.0

_Maybe = Tensor | None


def check(
    memory: str | None,
    activation: str,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
    input: Tensor | None = None,
) -> None:
    """Refuses what cannot be done in place.

    Raises:
        ValueError: an unknown ``memory``, an activation without an inverse, a residual, a mask, or an input of 16 bits.
    """
    if memory is None:
        return
    if memory != "inplace":
        raise ValueError(f"unknown memory={memory!r}; choose 'inplace', or None")
    if activation not in INVERSES:
        raise ValueError(
            f"memory='inplace' recovers the input from the output, which {activation!r} does not allow; use activation="
            "'leaky_relu', 'elu' or None, or memory=None"
        )
    if residual is not None:
        raise ValueError("memory='inplace' takes no residual: add it outside, out of place, or use memory=None")
    if mask is not None:
        raise ValueError("memory='inplace' takes no mask, whose zeros have no inverse; use memory=None")
    if input is not None and input.dtype.itemsize == 2:
        raise ValueError(
            f"memory='inplace' recovers z = (y - bias)/weight from the result, and {input.dtype} rounds it: a channel"
            " of zeros would get a gradient of its weight; use memory=None, or an input in float32"
        )


def normalize(x: Tensor, weight: _Maybe, bias: _Maybe, norm: Norm, stats: _Maybe = None) -> tuple[Tensor, Tensor]:
    """``library.normalize`` of batch norm, keeping the result alone for the backward pass."""
    if not library.eager(x) or not library.differentiated(x, weight, bias):
        # Nothing is kept, or what is kept is decided by a compiler or a transform.
        return library.normalize(x, weight, bias, None, norm, stats)
    # A value that only the graph holds: not the user's data, and nobody's parameter.
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)  # no two elements share memory
    overwrite = x.grad_fn is not None and not x._is_view() and dense and norm.activation != "elu"
    return cast(tuple[Tensor, Tensor], _InPlace.apply(x, weight, bias, stats, norm, overwrite))  # type: ignore[no-untyped-call]


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: _Maybe, bias: _Maybe, stats: _Maybe, norm: Norm, overwrite: bool
    ) -> tuple[Tensor, Tensor]:
        ctx.norm = norm
        plan = library.plan(x, norm)
        channels = _unclear(x, weight, bias, norm.activation)
        if not overwrite:
            y, found = plan.forward(x, weight, bias, None, stats)
            if norm.activation == "elu":
                lowest = torch.amin(y, [0, *range(2, y.ndim)])
                channels |= ~(lowest >= math.expm1(_LEAST))
        index = channels.nonzero().flatten() if bool(channels.any()) else None
        kept = None if index is None else x.index_select(1, index)
        if overwrite:
            y, found = plan.forward(x, weight, bias, None, stats, True)
            if y is not x:
                y = x.copy_(y)
            ctx.mark_dirty(x)
        ctx.mark_non_differentiable(found)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y, found, weight, bias, index, kept)
        return y, found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[_Maybe, ...]:
        dy = gradients[0]
        if dy is None:
            return (None,) * 6
        if torch.is_grad_enabled():
            raise RuntimeError("memory='inplace' has no second derivatives; use memory=None with create_graph=True")
        y, stats, weight, bias, index, kept = ctx.saved_tensors
        found = _backward(dy, y, weight, bias, ctx.norm, stats)
        if index is not None:
            w, b = (None if t is None else t.index_select(0, index) for t in (weight, bias))
            picked = stats.index_select(1, index)
            again = library.plan(kept, ctx.norm).backward(dy.index_select(1, index), kept, w, b, None, picked)
            for gradient, exact, axis in zip(found, again, (1, 0, 0), strict=False):
                if gradient is not None and exact is not None:
                    gradient.index_copy_(axis, index, exact)
        return (*found, None, None, None)


def _backward(
    dy: Tensor, y: Tensor, weight: _Maybe, bias: _Maybe, norm: Norm, stats: Tensor
) -> tuple[_Maybe, _Maybe, _Maybe]:
    """The gradients of x, weight and bias, in the channels that y tells enough about."""
    kernels = library.kernels(y, norm)
    if kernels is not None:
        dx, dweight, dbias, _ = kernels.backward(dy, y, weight, bias, None, stats, True)
        return dx, dweight, dbias
    mean, var = (norm.statistic(reference.widen(s), y) for s in stats.unbind(0))
    u = INVERSES[norm.activation][0](reference.widen(y))
    z = (u if bias is None else u - norm.parameter(bias, y)) / (1.0 if weight is None else norm.parameter(weight, y))
    x = mean + z * (var + norm.eps).sqrt()
    dx, dweight, dbias, _ = reference.backward(dy, x, weight, bias, None, norm, stats)
    return dx.to(y.dtype), dweight, dbias


def _unclear(x: Tensor, weight: _Maybe, bias: _Maybe, activation: str) -> Tensor:
    """By channel: whether the parameters leave too few digits of z in y."""
    size = torch.ones(x.shape[1], device=x.device) if weight is None else weight.flatten().abs()
    least = torch.finfo(x.dtype).tiny / INVERSES[activation][1]  # below it y is subnormal
    unclear = ~(size >= least)
    if bias is not None:
        unclear |= ~(bias.flatten().abs() <= _STEEPEST * size)
    return unclear
