"""What the kernels do with single values: wide types, activations, the standardized value; device code only.

Everything is calculated in float32, in float64 where a float64 goes in; statistics are kept in float64. A mean in
float64 is taken from x as two numbers of the calculating type, so that a large offset costs no digits.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

_TANH_SCALE = tl.constexpr(math.sqrt(2 / math.pi))
_TANH_CUBIC = tl.constexpr(0.044715)
_ROOT_HALF = tl.constexpr(math.sqrt(0.5))
_DENSITY = tl.constexpr(1 / math.sqrt(2 * math.pi))


@triton.jit
def wide(v):
    """``v`` in the type that is calculated in."""
    if v.dtype == tl.float64:
        return v
    else:  # noqa: RET505  (Triton drops the branch that is not taken, and only so)
        return v.to(tl.float32)


@triton.jit
def double(n):
    """An integer as one float64; it may be a number that Triton knows when it compiles."""
    return tl.zeros([1], tl.float64) + n


@triton.jit
def split(v, like):
    """A float64 as the sum of two numbers of the type of ``like``."""
    high = v.to(like.dtype)
    return high, (v - high.to(tl.float64)).to(like.dtype)


@triton.jit
def standardized(x, high, low, rstd):
    """``z``; the mean comes in two parts."""
    return ((x - high) - low) * rstd


@triton.jit
def affine(z, weight, bias, residual):
    """``u = z * weight + bias + residual``; what is None does not count."""
    u = z
    if weight is not None:
        u = u * weight
    if bias is not None:
        u = u + bias
    if residual is not None:
        u = u + residual
    return u


@triton.jit
def sigmoid(u):
    """1 / (1 + exp(-u))."""
    return 1 / (1 + tl.exp(-u))


@triton.jit
def clamped(u):
    """To [0, 6]; NaN stays NaN."""
    return tl.where(u < 0, u * 0, tl.where(u > 6, u * 0 + 6, u))


@triton.jit
def activate(u, ACTIVATION: tl.constexpr):
    """The value of ``reference.ACTIVATIONS``; NaN stays NaN."""
    if ACTIVATION == "relu":
        u = tl.where(u < 0, u * 0, u)
    elif ACTIVATION == "leaky_relu":
        u = tl.where(u > 0, u, u * 0.01)
    elif ACTIVATION == "elu":
        u = tl.where(u > 0, u, tl.exp(u) - 1)
    elif ACTIVATION == "silu":
        u = u * sigmoid(u)
    elif ACTIVATION == "gelu":
        u = 0.5 * u * (1 + tl.erf(u * _ROOT_HALF))
    elif ACTIVATION == "gelu_tanh":
        u = u * sigmoid((u + u * u * u * _TANH_CUBIC) * _TANH_SCALE * 2)
    elif ACTIVATION == "sigmoid":
        u = sigmoid(u)
    elif ACTIVATION == "tanh":
        u = 2 * sigmoid(2 * u) - 1
    elif ACTIVATION == "relu6":
        u = clamped(u)
    elif ACTIVATION == "hardswish":
        u = u * clamped(u + 3) / 6
    else:
        tl.static_assert(ACTIVATION == "", "an activation that the kernels do not know")
    return u


@triton.jit
def slope(u, ACTIVATION: tl.constexpr):
    """The derivative of ``activate``, which has a formula for each but the identity."""
    if ACTIVATION == "relu":
        result = 1 - (u <= 0).to(u.dtype)  # 1 at NaN, as in PyTorch
    elif ACTIVATION == "leaky_relu":
        result = tl.where(u > 0, u * 0 + 1, u * 0 + 0.01)
    elif ACTIVATION == "elu":
        result = tl.where(u > 0, u * 0 + 1, tl.exp(u))
    elif ACTIVATION == "silu":
        s = sigmoid(u)
        result = s * (1 + u * (1 - s))
    elif ACTIVATION == "gelu":
        result = 0.5 * (1 + tl.erf(u * _ROOT_HALF)) + u * _DENSITY * tl.exp(-0.5 * u * u)
    elif ACTIVATION == "gelu_tanh":
        s = sigmoid((u + u * u * u * _TANH_CUBIC) * _TANH_SCALE * 2)
        result = s + u * s * (1 - s) * (1 + u * u * _TANH_CUBIC * 3) * _TANH_SCALE * 2
    elif ACTIVATION == "sigmoid":
        s = sigmoid(u)
        result = s * (1 - s)
    elif ACTIVATION == "relu6":
        result = 1 - ((u <= 0) | (u >= 6)).to(u.dtype)  # 1 at NaN, as in PyTorch
    elif ACTIVATION == "hardswish":
        result = tl.where(u <= -3, 0.0, tl.where(u < 3, u / 3 + 0.5, 1.0))
    else:
        tl.static_assert(ACTIVATION == "tanh", "an activation that the kernels do not know")
        t = 2 * sigmoid(2 * u) - 1
        result = 1 - t * t
    return result


@triton.jit
def inverse(y, ACTIVATION: tl.constexpr):
    """``u`` from ``y = activate(u)``, for the activations of ``inplace.INVERSES``."""
    if ACTIVATION == "leaky_relu":
        y = tl.where(y > 0, y, y / 0.01)
    elif ACTIVATION == "elu":
        y = tl.where(y > 0, y, tl.log(1 + y))
    else:
        tl.static_assert(ACTIVATION == "", "an activation without an inverse")
    return y


@triton.jit
def upstream(dy, z, weight, bias, residual, ACTIVATION: tl.constexpr):
    """The gradient of ``u``."""
    if ACTIVATION != "":
        dy = dy * slope(affine(z, weight, bias, residual), ACTIVATION)
    return dy


@triton.jit
def tile_moments(x, inside, count, CENTER: tl.constexpr):
    """Mean and M2 (float64) of each row of a tile, of which ``count`` values are ``inside`` and the others 0.

    Two passes in registers. Where squares leave the range of the type, the row is scaled by its largest value first.
    """
    if CENTER:
        high = tl.sum(x * (1 / count).to(x.dtype), 1)
        d = tl.where(inside, x - high[:, None], 0.0)
        low = tl.sum(d, 1) / count.to(x.dtype)
        d = tl.where(inside, d - low[:, None], 0.0)
        mean = high.to(tl.float64) + low.to(tl.float64)
    else:
        d = x
        mean = tl.zeros_like(tl.sum(x, 1)).to(tl.float64)
    m2 = tl.sum(d * d, 1).to(tl.float64)
    if x.dtype != tl.float64:
        large = m2 > 1e38
        if tl.sum(large.to(tl.int32), 0) > 0:
            size = tl.max(tl.abs(d), 1)
            large = large & (size < float("inf"))
            size = tl.where(large, size, 1.0)
            scaled = d / size[:, None]
            m2 = tl.where(
                large, tl.sum(scaled * scaled, 1).to(tl.float64) * size.to(tl.float64) * size.to(tl.float64), m2
            )
    return mean, m2


@triton.jit
def merged(count, mean, m2, more, mean_more, m2_more):
    """The moments of both: Chan, Golub & LeVeque 1983, eq. 2.1; ``more`` is not 0."""
    delta = mean_more - mean
    share = more / (count + more)
    return mean + delta * share, m2 + m2_more + delta * delta * (count * share)
