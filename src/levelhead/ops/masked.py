r"""Normalization where only some values count, or where other processes' values count too.

The formula is that of ``reference``; the statistics are over the values that count, of this process and, with a
group, of all its processes:

.. math::
    n = \sum_i m_i, \quad \mu = \frac{1}{n}\sum_i m_i x_i, \quad \sigma^2 = \frac{1}{n}\sum_i m_i (x_i - \mu)^2,
    \quad y_i = m_i\, a(z_i w + b + r_i)

with m_i = 1 where a value counts and 0 where it does not. The gradient, with the sums over all processes:

.. math::
    \frac{dL}{dx_i} = \frac{m_i}{\sqrt{\sigma^2 + \epsilon}}
    \Big(dz_i - \frac{1}{n}\sum_j dz_j - \frac{z_i}{n}\sum_j dz_j z_j\Big)

What is behind the mask is replaced by 0 before anything is calculated, and the gradient that comes from there too: a
product with 0 would leave a NaN as it is. With a group the forward pass gathers count, mean and M2 in one collective,
and the backward pass adds up the two sums in another.

Source: Ioffe & Szegedy 2015, section 3, with sums over the values that count.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from levelhead.moments import Moments, check_mask
from levelhead.ops import library, reference, spec
from levelhead.ops.reference import clean
from levelhead.ops.spec import Norm

_Maybe = Tensor | None


class Normalized(NamedTuple):
    """The result and what it was taken from: statistics and counts, of ``Norm.shape``.

    Where nothing counts, the mean is 0 and the variance 1.
    """

    y: Tensor
    mean: Tensor
    var: Tensor
    counts: Tensor


def check(mask: Tensor, x: Tensor) -> Tensor:
    """The mask in the shape of ``x``.

    Raises:
        TypeError: it is not boolean.
        ValueError: it cannot be broadcast to ``x``.
    """
    try:
        return check_mask(mask, x.shape)
    except ValueError as error:
        if mask.ndim >= x.ndim or mask.shape != x.shape[: mask.ndim]:
            raise
        shape = ", ".join(map(str, (*mask.shape, *[1] * (x.ndim - mask.ndim))))
        raise ValueError(f"{error}; it fits the first dimensions: try mask.view({shape})") from None


def normalize(
    x: Tensor, mask: Tensor | None, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, group: str = ""
) -> Normalized:
    """Normalize ``x`` by the statistics of the values that count; see the module.

    Args:
        x: floating point.
        mask: boolean, of the shape of ``x``; None counts everything.
        weight: as ``norm`` wants it, or None for 1.
        bias: likewise, or None for 0.
        residual: of the shape of ``x``.
        norm: which values share statistics, and the rest.
        group: the name of the process group whose values count; "" is this process alone.
    """
    norm = norm._replace(masked=mask is not None)
    if library.FORCED == "triton" and mask is not None and x.numel():
        raise RuntimeError("LEVELHEAD_BACKEND=triton cannot serve a mask; unset it, or use reference")
    if library.transformed():
        return _plain(x, mask, weight, bias, residual, norm, group)
    y, stats = torch.ops.levelhead.normalize_counted(x, mask, weight, bias, residual, group, *norm)
    return Normalized(y, *stats.unbind(0))


def check_counts(count: Tensor) -> None:
    """Refuses statistics of which none is over two values or more; in a traced graph, nothing is looked at.

    Raises:
        ValueError: nothing counts, or one value.
    """
    if torch.compiler.is_compiling() or library.transformed():
        return
    most = int(count.max()) if count.numel() else 0
    if most == 0:
        raise ValueError("the mask leaves nothing to take statistics of: True must stand where a value counts")
    if most == 1:
        raise ValueError(
            "Expected more than 1 value per channel when training, and the mask leaves one: its variance says nothing"
        )


@torch.no_grad()
def track(
    running_mean: Tensor, running_var: Tensor, batch: Normalized, momentum: float | Tensor, unbiased: bool
) -> None:
    """Move running estimates, one a channel, towards the batch's; several statistics a channel are averaged.

    A statistic over fewer than two values does not enter, and a channel that has none keeps its estimates.
    """
    channels = running_mean.numel()
    count = batch.counts.reshape(-1, channels)
    valid = count > 1
    share = valid.to(count.dtype) / valid.sum(0).clamp(min=1)
    correction = count / (count - 1).clamp(min=1) if unbiased else torch.ones_like(count)
    weight = momentum * valid.any(0)
    mean, var = batch.mean.reshape(-1, channels), batch.var.reshape(-1, channels) * correction
    for running, values in ((running_mean, mean), (running_var, var)):
        average = (values.masked_fill(~valid, 0) * share).sum(0)
        reference.track(running, average, weight)


def _plain(
    x: Tensor, mask: Tensor | None, weight: _Maybe, bias: _Maybe, residual: _Maybe, norm: Norm, group: str
) -> Normalized:
    """In operations that autograd and torch.func see through."""
    stats = reference.statistics(x, norm, mask, partial(_sum, group=group))
    y = reference.forward(x, weight, bias, residual, norm, stats, mask)
    return Normalized(y, *stats.unbind(0))


def _kernel(
    x: Tensor, mask: Tensor | None, weight: _Maybe, bias: _Maybe, residual: _Maybe, group: str, *fields: Any
) -> tuple[Tensor, Tensor]:
    """The result, and mean, variance and count, stacked."""
    norm = Norm(*fields)._replace(masked=mask is not None)  # as many statistics as the kernels write
    kernels = library.kernels(x, norm) if mask is not None and not group else None
    if kernels is not None:
        return kernels.forward(x, weight, bias, residual, None, False, mask)
    if norm.center:
        moments = _moments(x, mask, norm)
        if group:
            moments = moments.all_reduce(_group(group))
        count = moments.count.to(moments.mean.dtype).expand(moments.shape)
        none = count == 0
        stats = torch.stack([moments.mean.masked_fill(none, 0), (moments.m2 / count).masked_fill(none, 1), count])
    else:
        stats = reference.statistics(x, norm, mask, partial(_sum, group=group))
    if norm.over == "batch":  # by the kernels, as statistics are one a channel
        rest = None if residual is None else clean(residual, mask)
        given = norm._replace(over="given", masked=False)
        seen = clean(x, mask)
        y = clean(library.plan(seen, given).forward(seen, weight, bias, rest, stats[:2])[0], mask)
    else:
        y = reference.forward(x, weight, bias, residual, norm, stats, mask)
    return spec.back(y, x, norm), stats


def _moments(x: Tensor, mask: Tensor | None, norm: Norm) -> Moments:
    """Those of this process; by the kernel where it can, which costs it a result that nobody wants."""
    kernels = library.kernels(x, norm._replace(activation="", masked=False)) if mask is None else None
    if kernels is not None:
        mean, var = kernels.forward(x, None, None, None)[1].unbind(0)
        count = torch.tensor(x.numel() // max(mean.numel(), 1), device="cpu")
        return Moments(count, mean, var * count)
    split = norm.split(x.detach())
    return Moments.of(split, norm.dims(x.ndim), None if mask is None else norm.split(mask))


def _by_kernels(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    norm: Norm,
    group: str,
    stats: Tensor,
) -> tuple[_Maybe, ...] | None:
    """As ``reference.backward``, where statistics and parameters are one a channel and the kernels serve; else None.

    The kernel for constant statistics gives dz/√(σ² + ε) and, as gradients of weight and bias, Σ g z and Σ g, which
    times the weight are the two sums. The rest is a standardization of x with a residual.
    """
    if norm.over != "batch" or x.dtype not in (torch.float32, torch.float64):
        return None
    if residual is not None and residual.dtype != x.dtype:
        return None
    x = clean(x, mask)
    rest = None if residual is None else clean(residual, mask)
    scale = torch.ones_like(stats[0]) if weight is None else weight
    shift = torch.zeros_like(stats[0]) if bias is None else bias
    given = norm._replace(over="given", masked=False)
    kernels, linear = library.kernels(x, given), library.kernels(x, given._replace(activation=""))
    if kernels is None or linear is None:
        return None
    dx, dweight, dbias, dresidual = kernels.backward(clean(dy, mask), x, scale, shift, rest, stats[:2])
    assert dx is not None
    assert dweight is not None
    assert dbias is not None
    wide = scale.double()
    total, along = (_sum(torch.stack([wide * dbias, wide * dweight]), group) / stats[2].clamp(min=1)).unbind(0)
    slope = -(stats[1] + norm.eps).rsqrt()
    return (
        clean(linear.forward(x, along * slope, total * slope, dx, stats[:2])[0], mask),
        None if weight is None else dweight,
        None if bias is None else dbias,
        None if dresidual is None else clean(dresidual, mask),
    )


class _Sum(torch.autograd.Function):
    """The sum over the processes of a group; the gradient of everybody's losses is the sum of everybody's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: str) -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=_group(group))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.group), None  # type: ignore[no-untyped-call]


def _sum(x: Tensor, group: str) -> Tensor:
    return cast(Tensor, _Sum.apply(x, group)) if group else x  # type: ignore[no-untyped-call]


def _group(name: str) -> dist.ProcessGroup:
    """The process group of that name: an operator's arguments are tensors, numbers and text."""
    return distributed_c10d._resolve_process_group(name)  # type: ignore[arg-type,attr-defined]


def _fake(
    x: Tensor, mask: Tensor | None, weight: _Maybe, bias: _Maybe, residual: _Maybe, group: str, *fields: Any
) -> tuple[Tensor, Tensor]:
    norm = Norm(*fields)
    return spec.result(x, norm), reference.widen(x.new_empty(())).new_empty((3, *norm.shape(x.shape)))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.group = inputs[:6]
    ctx.norm = Norm(*inputs[6:])
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx: Any, dy: Tensor, *_: _Maybe) -> tuple[_Maybe, ...]:
    x, mask, weight, bias, residual, stats = ctx.saved_tensors
    if torch.is_grad_enabled():  # create_graph=True: with the statistics as functions of x
        total = partial(_sum, group=ctx.group)
        stats = reference.statistics(x, ctx.norm, mask, total)
        gradients: tuple[_Maybe, ...] = reference.backward(dy, x, weight, bias, residual, ctx.norm, stats, mask, total)
    else:
        found = torch.ops.levelhead.normalize_counted_backward(
            dy, x, mask, weight, bias, residual, stats, ctx.group, *ctx.norm
        )
        tensors = (x, weight, bias, residual)
        gradients = tuple(None if t is None else g for t, g in zip(tensors, found, strict=True))
    dx, *parameters = gradients
    return (dx, None, *parameters, None, *[None] * len(Norm._fields))


def _backward_kernel(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    stats: Tensor,
    group: str,
    *fields: Any,
) -> tuple[Tensor, ...]:
    norm = Norm(*fields)._replace(masked=mask is not None)  # as many statistics as the kernels write
    kernels = library.kernels(x, norm) if mask is not None and not group else None
    if kernels is not None:
        served: tuple[_Maybe, ...] | None = kernels.backward(dy, x, weight, bias, residual, stats, False, mask)
    else:
        served = _by_kernels(dy, x, mask, weight, bias, residual, norm, group, stats)
    if served is None:
        total = partial(_sum, group=group)
        served = reference.backward(dy, x, weight, bias, residual, norm, stats, mask, total)
    dx, *others = served
    assert dx is not None
    given = zip((weight, bias, residual), others, strict=True)
    return (
        spec.back(dx, x, norm),
        *(x.new_empty(0) if t is None or g is None else spec.like(g, torch.empty_like(t)) for t, g in given),
    )


def _fake_backward(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    stats: Tensor,
    group: str,
    *fields: Any,
) -> tuple[Tensor, ...]:
    return library.empty_gradients(x, weight, bias, residual, Norm(*fields))


_TENSORS = "Tensor x, Tensor? mask, Tensor? weight, Tensor? bias, Tensor? residual"
library.register(
    "normalize_counted_backward",
    f"(Tensor dy, {_TENSORS}, Tensor stats, str group, {library.NORM})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)",
    _backward_kernel,
    _fake_backward,
)
library.register(
    "normalize_counted",
    f"({_TENSORS}, str group, {library.NORM}) -> (Tensor y, Tensor stats)",
    _kernel,
    _fake,
    _gradients,
    _save,
)
