r"""THE maths: every normalizer in plain PyTorch, forward and backward by hand.

All of them are one formula; they differ only in what a ``Norm`` says, above all which values share statistics:

.. math::
    z = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = a(z\,w + b + r)

with mean μ and biased variance σ² (μ = 0 and σ² = E[x²] for RMS norm), an activation a and a residual r that are
optional. The backward pass goes through the statistics. With g = dL/d(z w + b + r) and dz = g w,

.. math::
    \frac{dL}{dx_i} =
    \frac{1}{\sqrt{\sigma^2 + \epsilon}}\Big(dz_i - \mathrm{mean}(dz) - z_i\,\mathrm{mean}(dz \cdot z)\Big)

which is the sum over j of dz_j times the Jacobian
δ_ij ρ - ρ/n - (x_i - μ)(x_j - μ) ρ³/n with ρ = 1/√(σ² + ε) (Ioffe & Szegedy 2015, section 3).

This is the readable spec. It calculates in float64 wherever the device has it, so that a large mean, a value near 1e30
or a type of 16 bits costs no digits; the result has the type of ``x``. Everything here can be differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from levelhead.ops.spec import Norm


class Gradients(NamedTuple):
    """The gradients with respect to the tensors that went in; None for what was None."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None


def widen(x: Tensor) -> Tensor:
    """``x`` in the type that the reference calculates in."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def clean(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with zeros behind the mask, whatever was there; its gradient is zero there too."""
    return x if mask is None else torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def statistics(
    x: Tensor, norm: Norm, mask: Tensor | None = None, total: Callable[[Tensor], Tensor] = lambda s: s
) -> Tensor:
    """Mean, biased variance and count, stacked; without ``center`` zero and the mean square. Each is of ``norm.shape``.

    Args:
        x: what is normalized.
        norm: which values share statistics.
        mask: of the shape of ``x``; True counts. Where nothing does, the mean is 0 and the variance 1.
        total: makes of sums over these values those over the values of all processes.
    """
    wide, dims = norm.split(widen(clean(x, mask))), norm.dims(x.ndim)
    counted = None if mask is None else norm.split(mask)
    ones = wide.new_ones(()).expand(wide.shape) if counted is None else counted.to(wide.dtype)
    count = total(ones.sum(dims, keepdim=True))
    n = count.clamp(min=1)
    mean = total(wide.sum(dims, keepdim=True)) / n if norm.center else torch.zeros_like(n)
    var = total(clean(wide - mean, counted).square().sum(dims, keepdim=True)) / n
    return torch.stack([mean, var.masked_fill(count == 0, 1), count]).view(3, *norm.shape(x.shape))


@torch.no_grad()
def track(running: Tensor, batch: Tensor, momentum: float | Tensor) -> None:
    """Move a running estimate: ``running = (1 - momentum) * running + momentum * batch``, rounded once.

    In this form an infinite estimate stays infinite; ``lerp_`` would make it NaN.
    """
    running.copy_((1 - momentum) * widen(running) + momentum * widen(batch))


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    norm: Norm,
    stats: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """``a((x - mean) / √(var + eps) * weight + bias + residual)``, in the type of ``x``; 0 where ``mask`` is False."""
    _, u, _ = _standardized(x, weight, bias, residual, norm, stats, mask)
    return clean(ACTIVATIONS[norm.activation].value(u).to(x.dtype).reshape(x.shape), mask)


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    norm: Norm,
    stats: Tensor,
    mask: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = lambda s: s,
) -> Gradients:
    """The gradients of ``forward``, through the statistics unless they are given; ``mask`` and ``total`` as for them.

    Without a count in ``stats``, all values of ``x`` count.
    """
    z, u, rstd = _standardized(x, weight, bias, residual, norm, stats, mask)
    g = widen(norm.split(clean(dy, mask))) * ACTIVATIONS[norm.activation].slope(u)
    dz = g if weight is None else g * widen(norm.parameter(weight, x))
    inner = dz
    if norm.over != "given":
        dims = norm.dims(x.ndim)
        sums = total(torch.stack([dz.sum(dims, keepdim=True), (dz * z).sum(dims, keepdim=True)]))
        count = norm.statistic(stats[2].clamp(min=1), x) if len(stats) == 3 else z.numel() / max(rstd.numel(), 1)
        level, along = (sums / count).unbind(0)
        inner = dz - z * along
        if norm.center:
            inner = inner - level
    return Gradients(
        clean((inner * rstd).reshape(x.shape), mask).to(x.dtype),
        None if weight is None else _summed(g * z, weight, x, norm),
        None if bias is None else _summed(g, bias, x, norm),
        None if residual is None else g.to(residual.dtype).reshape(x.shape),
    )


def _summed(values: Tensor, parameter: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """The sum of values of the shape of ``split(x)`` for each value of a parameter."""
    return values.sum_to_size(norm.parameter(parameter, x).shape).reshape(parameter.shape).to(parameter.dtype)


def _standardized(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    norm: Norm,
    stats: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``z``, ``u = z * weight + bias + residual`` and 1/√(var + eps), in the shape of ``split(x)``."""
    mean, var = (norm.statistic(widen(s), x) for s in stats[:2].unbind(0))
    rstd = (var + norm.eps).rsqrt()
    z = (widen(norm.split(clean(x, mask))) - mean) * rstd
    u = z if weight is None else z * widen(norm.parameter(weight, x))
    u = u if bias is None else u + widen(norm.parameter(bias, x))
    return z, u if residual is None else u + widen(norm.split(clean(residual, mask))), rstd


class Activation(NamedTuple):
    """An elementwise function and its derivative."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715


def _sigmoid_slope(u: Tensor) -> Tensor:
    s = u.sigmoid()
    return s * (1 - s)


def _silu_slope(u: Tensor) -> Tensor:
    s = u.sigmoid()
    return s * (1 + u * (1 - s))


def _gelu_slope(u: Tensor) -> Tensor:
    density = torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    cumulative: Tensor = torch.special.ndtr(u)
    return cumulative + u * density


def _gelu_tanh_slope(u: Tensor) -> Tensor:
    t = torch.tanh(_TANH_SCALE * (u + _TANH_CUBIC * u**3))
    inner = _TANH_SCALE * (1 + 3 * _TANH_CUBIC * u * u)
    return 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * inner


def _hardswish_slope(u: Tensor) -> Tensor:
    return torch.where(u <= -3, 0.0, torch.where(u < 3, u / 3 + 0.5, 1.0))  # 1 at NaN, as in PyTorch


#: By name, with the defaults of torch.nn: leaky_relu has slope 0.01, elu has alpha 1; "" is the identity.
ACTIVATIONS: dict[str, Activation] = {
    "": Activation(lambda u: u, torch.ones_like),
    "relu": Activation(F.relu, lambda u: (~(u <= 0)).to(u.dtype)),  # 1 at NaN, as in PyTorch
    "leaky_relu": Activation(F.leaky_relu, lambda u: torch.where(u > 0, torch.ones_like(u), 0.01)),
    "elu": Activation(F.elu, lambda u: torch.where(u > 0, 1.0, torch.exp(u.clamp(max=0)))),
    "silu": Activation(F.silu, _silu_slope),
    "gelu": Activation(F.gelu, _gelu_slope),
    "gelu_tanh": Activation(lambda u: F.gelu(u, approximate="tanh"), _gelu_tanh_slope),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_slope),
    "tanh": Activation(torch.tanh, lambda u: 1 - torch.tanh(u).square()),
    "relu6": Activation(F.relu6, lambda u: (~((u <= 0) | (u >= 6))).to(u.dtype)),  # 1 at NaN, as in PyTorch
    "hardswish": Activation(F.hardswish, _hardswish_slope),
}
