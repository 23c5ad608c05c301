r"""THE maths: every normalizer in plain PyTorch, forward and backward by hand.

All of them are one formula; they differ only in the axes ``dims`` that the statistics are taken over and in the
shape of the parameters, which broadcast against ``x``:

.. math::
    z = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = a(z\,w + b + r)

with mean μ and biased variance σ² over ``dims`` (μ = 0 and σ² = E[x²] for RMS norm), an activation a and a residual r
that are optional. The backward pass goes through the statistics. With g = dL/d(z w + b + r) and dz = g w,

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
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Dims = list[int] | tuple[int, ...]


class Statistics(NamedTuple):
    """Mean and biased variance, of ``x``'s number of dimensions with the reduced ones of size 1."""

    mean: Tensor
    var: Tensor


class Gradients(NamedTuple):
    """The gradients with respect to the tensors that went in; None for what was None."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    residual: Tensor | None


def widen(x: Tensor) -> Tensor:
    """``x`` in the type that the reference calculates in."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def statistics(x: Tensor, dims: Dims, center: bool = True) -> Statistics:
    """Mean and biased variance of ``x`` over ``dims``; without ``center`` zero and the mean square."""
    wide = widen(x)
    mean = wide.mean(dims, keepdim=True)
    if not center:
        return Statistics(torch.zeros_like(mean), wide.square().mean(dims, keepdim=True))
    return Statistics(mean, (wide - mean).square().mean(dims, keepdim=True))


@torch.no_grad()
def track(running: Tensor, batch: Tensor, momentum: float | Tensor) -> None:
    """Move a running estimate: ``running = (1 - momentum) * running + momentum * batch``, rounded once.

    In this form an infinite estimate stays infinite; ``lerp_`` would make it NaN.
    """
    running.copy_((1 - momentum) * widen(running) + momentum * widen(batch))


def forward(
    x: Tensor,
    stats: Statistics,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
) -> Tensor:
    """``a((x - mean) / √(var + eps) * weight + bias + residual)``, in the type of ``x``."""
    _, u = _standardized(x, stats, weight, bias, residual, eps)
    return ACTIVATIONS[activation].value(u).to(x.dtype)


def backward(
    dy: Tensor,
    x: Tensor,
    stats: Statistics,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
    activation: str,
    dims: Dims | None,
    center: bool = True,
) -> Gradients:
    """The gradients of ``forward``, through the statistics over ``dims``; where that is None, they are constants."""
    z, u = _standardized(x, stats, weight, bias, residual, eps)
    g = widen(dy) * ACTIVATIONS[activation].slope(u)
    dz = g if weight is None else g * widen(weight)
    if dims is None:
        inner = dz
    else:
        inner = dz - z * (dz * z).mean(dims, keepdim=True)
        if center:
            inner = inner - dz.mean(dims, keepdim=True)
    dx = inner * (stats.var + eps).rsqrt()
    return Gradients(
        dx.to(x.dtype),
        None if weight is None else (g * z).sum_to_size(weight.shape).to(weight.dtype),
        None if bias is None else g.sum_to_size(bias.shape).to(bias.dtype),
        None if residual is None else g.to(residual.dtype),
    )


def _standardized(
    x: Tensor, stats: Statistics, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """``z``, and ``u = z * weight + bias + residual``."""
    z = (widen(x) - stats.mean) * (stats.var + eps).rsqrt()
    u = z if weight is None else z * widen(weight)
    u = u if bias is None else u + widen(bias)
    return z, u if residual is None else u + widen(residual)


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
}
