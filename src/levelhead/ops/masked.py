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

import math
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from levelhead.moments import Moments, _check_mask
from levelhead.ops import library, reference
from levelhead.ops.reference import Dims, Statistics


class Normalized(NamedTuple):
    """The result and what it was taken from: statistics and counts with the reduced dimensions of size 1.

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
        return _check_mask(mask, x)
    except ValueError as error:
        if mask.ndim >= x.ndim or mask.shape != x.shape[: mask.ndim]:
            raise
        shape = ", ".join(map(str, (*mask.shape, *[1] * (x.ndim - mask.ndim))))
        raise ValueError(f"{error}; it fits the first dimensions: try mask.view({shape})") from None


def clean(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with zeros behind the mask, whatever was there; its gradient is zero there too."""
    return x if mask is None else torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def normalize(
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool = True,
    group: str = "",
) -> Normalized:
    """Normalize ``x`` by the statistics over ``dims`` of the values that count; see the module.

    Args:
        x: floating point.
        mask: boolean, of the shape of ``x``; None counts everything.
        weight: in a shape that broadcasts against ``x``, or None for 1.
        bias: likewise, or None for 0.
        residual: of the shape of ``x``.
        dims: what is reduced, not negative.
        eps: added to the variance.
        activation: a name from ``reference.ACTIVATIONS``.
        center: False leaves the mean at 0, as RMS norm does.
        group: the name of the process group whose values count; "" is this process alone.
    """
    if library.FORCED in ("cpu", "triton") and mask is not None and x.numel():
        raise RuntimeError(f"LEVELHEAD_BACKEND={library.FORCED} cannot serve a mask; unset it, or use reference")
    arguments = (x, mask, weight, bias, residual, list(dims), eps, activation, center, group)
    if library.transformed():
        return _plain(*arguments)
    return Normalized(*torch.ops.levelhead.normalize_counted(*arguments))


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
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool,
    group: str,
) -> Normalized:
    """In operations that autograd and torch.func see through."""
    stats, count = _statistics(x, mask, dims, center, group)
    rest = None if residual is None else clean(residual, mask)
    y = reference.forward(clean(x, mask), stats, weight, bias, rest, eps, activation)
    return Normalized(clean(y, mask), *stats, count)


def _kernel(
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    eps: float,
    activation: str,
    center: bool,
    group: str,
) -> Normalized:
    if center:
        moments = _moments(x, mask, dims, eps)
        if group:
            moments = moments.all_reduce(_group(group))
        shape = [1 if d in dims else size for d, size in enumerate(x.shape)]
        count = moments.count.to(moments.mean.dtype).expand(moments.shape).reshape(shape)
        none = count == 0
        mean, var = moments.mean.reshape(shape).masked_fill(none, 0), moments.m2.reshape(shape) / count
        var = var.masked_fill(none, 1)
    else:
        (mean, var), count = _statistics(x, mask, dims, center, group)
    rest = None if residual is None else clean(residual, mask)
    y = library._standardize(clean(x, mask), mean, var, weight, bias, rest, eps, activation)
    return Normalized(_own(clean(y, mask), x), mean, var, count.clone())


def _moments(x: Tensor, mask: Tensor | None, dims: Dims, eps: float) -> Moments:
    """Those of this process; by the kernel where it can, which costs it a result that nobody wants."""
    if mask is None and library.FORCED != "reference":
        served = library.kernels_for(x).normalize(x, None, None, None, dims, eps, "", True)
        if served is not None:
            _, mean, var = (t.squeeze(dims) for t in served)
            count = torch.tensor(math.prod(x.shape[d] for d in dims))
            return Moments(count, mean, var * count)
    return Moments.of(x.detach(), dims, mask)


def _statistics(x: Tensor, mask: Tensor | None, dims: Dims, center: bool, group: str) -> tuple[Statistics, Tensor]:
    """The statistics as differentiable functions of ``x``, and the counts."""
    wide = reference.widen(clean(x, mask))
    ones = torch.ones((), dtype=wide.dtype, device=x.device).expand(x.shape) if mask is None else mask.to(wide.dtype)
    count = _sum(ones.sum(dims, keepdim=True), group)
    n = count.clamp(min=1)
    mean = _sum(wide.sum(dims, keepdim=True), group) / n if center else torch.zeros_like(n)
    var = _sum(clean(wide - mean, mask).square().sum(dims, keepdim=True), group) / n
    return Statistics(mean, var.masked_fill(count == 0, 1)), count


def _backward(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    stats: Statistics,
    count: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    dims: Dims,
    center: bool,
    group: str,
) -> tuple[Tensor | None, ...]:
    """The gradients with respect to x, weight, bias and residual."""
    rest = None if residual is None else clean(residual, mask)
    z, u = reference._standardized(clean(x, mask), stats, weight, bias, rest, eps)
    g = clean(reference.widen(dy), mask) * reference.ACTIVATIONS[activation].slope(u)
    dz = g if weight is None else g * reference.widen(weight)
    sums = _sum(torch.stack([dz.sum(dims, keepdim=True), (dz * z).sum(dims, keepdim=True)]), group)
    total, along = (sums / count.clamp(min=1)).unbind(0)
    inner = dz - z * along - total if center else dz - z * along
    return (
        clean(inner * (stats.var + eps).rsqrt(), mask).to(x.dtype),
        None if weight is None else (g * z).sum_to_size(weight.shape).to(weight.dtype),
        None if bias is None else g.sum_to_size(bias.shape).to(bias.dtype),
        None if residual is None else g.to(residual.dtype),
    )


def _by_kernels(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    stats: Statistics,
    count: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    dims: Dims,
    center: bool,
    group: str,
) -> tuple[Tensor | None, ...] | None:
    """As ``_backward``, where statistics and parameters are one a channel and the kernels serve; else None.

    The kernel for constant statistics gives dz/√(σ² + ε) and, as gradients of weight and bias, Σ g z and Σ g, which
    times the weight are the two sums. The rest is a standardization of x with a residual.
    """
    if x.dtype not in (torch.float32, torch.float64) or (residual is not None and residual.dtype != x.dtype):
        return None
    x = clean(x, mask)
    rest = None if residual is None else clean(residual, mask)
    scale = torch.ones_like(stats.mean) if weight is None else weight
    shift = torch.zeros_like(stats.mean) if bias is None else bias
    kernels = library.kernels_for(x)
    served = kernels.normalize_backward(
        clean(dy, mask), x, stats.mean, stats.var, scale, shift, rest, eps, activation, None, True
    )
    if served is None:
        return None
    dx, dweight, dbias, dresidual = served
    assert dx is not None
    assert dweight is not None
    assert dbias is not None
    wide = scale.double()
    total, along = (_sum(torch.stack([wide * dbias, wide * dweight]), group) / count.clamp(min=1)).unbind(0)
    slope = -(stats.var + eps).rsqrt()
    dx = kernels.standardize(x, *stats, along * slope, total * slope if center else None, dx, eps, "")
    assert dx is not None  # as the kernels served x before
    return (
        clean(dx, mask),
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


def _own(y: Tensor, x: Tensor) -> Tensor:
    """``y`` with the strides that its fake, ``torch.empty_like(x)``, has."""
    like = torch.empty_like(x)
    return y if y.stride() == like.stride() else like.copy_(y)


def _fake(
    x: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    dims: Dims,
    *_: Any,
) -> tuple[Tensor, ...]:
    shape = [1 if d in dims else size for d, size in enumerate(x.shape)]
    mean = reference.widen(x.new_empty(())).new_empty(shape)
    return torch.empty_like(x), mean, torch.empty_like(mean), torch.empty_like(mean)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, mask, weight, bias, residual, ctx.dims, ctx.eps, ctx.activation, ctx.center, ctx.group = inputs
    ctx.save_for_backward(x, mask, *output[1:], weight, bias, residual)


def _gradients(ctx: Any, dy: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    x, mask, mean, var, count, weight, bias, residual = ctx.saved_tensors
    options = (ctx.eps, ctx.activation, ctx.dims, ctx.center, ctx.group)
    if torch.is_grad_enabled():  # create_graph=True: with the statistics as functions of x
        stats, count = _statistics(x, mask, ctx.dims, ctx.center, ctx.group)
        gradients = _backward(dy, x, mask, stats, count, weight, bias, residual, *options)
    else:
        found = torch.ops.levelhead.normalize_counted_backward(
            dy, x, mask, mean, var, count, weight, bias, residual, *options
        )
        tensors = (x, weight, bias, residual)
        gradients = tuple(None if t is None else g for t, g in zip(tensors, found, strict=True))
    dx, *parameters = gradients
    return (dx, None, *parameters, None, None, None, None, None)


def _backward_kernel(
    dy: Tensor,
    x: Tensor,
    mask: Tensor | None,
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    *options: Any,
) -> tuple[Tensor, ...]:
    stats = Statistics(mean, var)
    served = None
    if library.FORCED != "reference":
        served = _by_kernels(dy, x, mask, stats, count, weight, bias, residual, *options)
    gradients = served or _backward(dy, x, mask, stats, count, weight, bias, residual, *options)
    tensors = (x, weight, bias, residual)
    return tuple(
        x.new_empty(0) if t is None or g is None else _own(g, t) for t, g in zip(tensors, gradients, strict=True)
    )


def _fake_backward(dy: Tensor, x: Tensor, mask: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    _, _, _, weight, bias, residual, *_ = rest
    return tuple(x.new_empty(0) if t is None else torch.empty_like(t) for t in (x, weight, bias, residual))


_PARAMETERS = "Tensor? weight, Tensor? bias, Tensor? residual"
_OPTIONS = "float eps, str activation, int[] dims, bool center, str group"
library.register(
    "normalize_counted_backward",
    f"(Tensor dy, Tensor x, Tensor? mask, Tensor mean, Tensor var, Tensor count, {_PARAMETERS}, {_OPTIONS})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)",
    _backward_kernel,
    _fake_backward,
)
library.register(
    "normalize_counted",
    f"(Tensor x, Tensor? mask, {_PARAMETERS}, int[] dims, float eps, str activation, bool center, str group)"
    " -> (Tensor y, Tensor mean, Tensor var, Tensor count)",
    _kernel,
    _fake,
    _gradients,
    _save,
)
