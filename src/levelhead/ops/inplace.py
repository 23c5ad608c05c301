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
from levelhead.ops.reference import Dims, Statistics

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


def normalize(
    x: Tensor, weight: _Maybe, bias: _Maybe, dims: Dims, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """``library.normalize`` over all but dimension 1, keeping the result alone for the backward pass."""
    if _as_ever(x, weight, bias):
        return library.normalize(x, weight, bias, None, dims, eps, activation)
    return cast(tuple[Tensor, Tensor, Tensor], _apply(x, weight, bias, None, None, dims, eps, activation))


def standardize(
    x: Tensor, mean: Tensor, var: Tensor, weight: _Maybe, bias: _Maybe, eps: float, activation: str
) -> Tensor:
    """``library.standardize``, keeping the result alone for the backward pass."""
    if _as_ever(x, weight, bias):
        return library.standardize(x, mean, var, weight, bias, None, eps, activation)
    return cast(Tensor, _apply(x, weight, bias, mean, var, None, eps, activation)[0])


def _as_ever(x: Tensor, weight: _Maybe, bias: _Maybe) -> bool:
    """Whether nothing is kept, or what is kept is decided by a compiler or a transform."""
    return library.transformed() or not library.plain(x) or not library.differentiated(x, weight, bias)


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: _Maybe,
        bias: _Maybe,
        mean: _Maybe,
        var: _Maybe,
        dims: Dims | None,
        eps: float,
        activation: str,
        overwrite: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.dims, ctx.eps, ctx.activation = dims, eps, activation
        channels = _unclear(x, weight, bias, activation)
        if not overwrite:
            y, *statistics = _forward(x, weight, bias, mean, var, dims, eps, activation, False)
            if activation == "elu":
                lowest = torch.amin(y, [0, *range(2, y.ndim)])
                channels |= ~(lowest >= math.expm1(_LEAST))
        index = channels.nonzero().flatten() if bool(channels.any()) else None
        kept = None if index is None else x.index_select(1, index)
        if overwrite:
            y, *statistics = _forward(x, weight, bias, mean, var, dims, eps, activation, True)
            if y is not x:
                y = x.copy_(y)
            ctx.mark_dirty(x)
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y, *statistics, weight, bias, index, kept)
        return y, statistics[0], statistics[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[_Maybe, ...]:
        dy = gradients[0]
        if dy is None:
            return (None,) * 9
        if torch.is_grad_enabled():
            raise RuntimeError("memory='inplace' has no second derivatives; use memory=None with create_graph=True")
        y, mean, var, weight, bias, index, kept = ctx.saved_tensors
        found = _backward(dy, y, mean, var, weight, bias, ctx.eps, ctx.activation, ctx.dims)
        if index is not None:
            picked: list[Any] = [None if t is None else t.index_select(1, index) for t in (dy, mean, var, weight, bias)]
            d, m, v, w, b = picked
            again = library._backward(d, kept, m, v, w, b, None, ctx.eps, ctx.activation, ctx.dims, True)
            for gradient, exact in zip(found, again, strict=False):
                if gradient is not None and exact is not None:
                    gradient.index_copy_(1, index, exact)
        return (*found, None, None, None, None, None, None)


def _apply(x: Tensor, *others: Any) -> Any:
    # A value that only the graph holds: not the user's data, and nobody's parameter.
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)  # no two elements share memory
    overwrite = x.grad_fn is not None and not x._is_view() and dense and others[-1] != "elu"
    return _InPlace.apply(x, *others, overwrite)  # type: ignore[no-untyped-call]


def _forward(
    x: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    mean: _Maybe,
    var: _Maybe,
    dims: Dims | None,
    eps: float,
    activation: str,
    overwrite: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if dims is not None:
        return library._normalize(x, weight, bias, None, dims, eps, activation, True, overwrite)
    assert mean is not None
    assert var is not None
    return library._standardize(x, mean, var, weight, bias, None, eps, activation, overwrite), mean, var


def _backward(
    dy: Tensor,
    y: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    eps: float,
    activation: str,
    dims: Dims | None,
) -> tuple[_Maybe, _Maybe, _Maybe]:
    """The gradients of x, weight and bias, in the channels that y tells enough about."""
    if library.FORCED != "reference":
        kernels = library.kernels_for(y)
        served = kernels.normalize_backward(dy, y, mean, var, weight, bias, None, eps, activation, dims, True, True)
        if served is not None:
            return served[0], served[1], served[2]
    stats = Statistics(reference.widen(mean), reference.widen(var))
    u = INVERSES[activation][0](reference.widen(y))
    z = (u if bias is None else u - bias) / (1.0 if weight is None else weight)
    x = stats.mean + z * (stats.var + eps).sqrt()
    dx, dweight, dbias, _ = reference.backward(dy, x, stats, weight, bias, None, eps, activation, dims)
    return dx.to(y.dtype), dweight, dbias


def _unclear(x: Tensor, weight: _Maybe, bias: _Maybe, activation: str) -> Tensor:
    """By channel: whether the parameters leave too few digits of z in y."""
    size = torch.ones(x.shape[1], device=x.device) if weight is None else weight.flatten().abs()
    least = torch.finfo(x.dtype).tiny / INVERSES[activation][1]  # below it y is subnormal
    unclear = ~(size >= least)
    if bias is not None:
        unclear |= ~(bias.flatten().abs() <= _STEEPEST * size)
    return unclear
