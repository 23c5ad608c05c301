r"""Dropout by elements and by channels, alpha dropout, and dropout with what follows it in a transformer.

The mask of a call is a pure function of two numbers that are drawn from the generator, and of the rate (see
``philox``): it is never stored, and the same on every backend, device and number of threads. What is multiplied by 0
is multiplied: a dropped NaN or infinity gives NaN, as in PyTorch, so that no fault of a network hides behind luck.

Rates are multiples of 1/65536: ``p`` is rounded to the nearest of them that is neither 0 nor 1, and what is kept is
scaled by 1/(1 - p) of that rate, so that the expectation is the input exactly.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from levelhead.ops import dropout_norm, library, spec
from levelhead.ops.dropout_operator import dropout as masked
from levelhead.ops.philox import LEVELS, Noise

_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

#: The value that SELU tends to far to the left, negated: its scale times its alpha.
_SELU_FLOOR = 1.7580993408473766

#: Numbers of a mask's state are below this.
_MOST = 2**63 - 1


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Drop each element with probability ``p`` and scale what is kept by 1/(1 - p).

    .. math:: y_i = x_i \frac{m_i}{1 - p}, \qquad m_i \in \{0, 1\}, \quad P(m_i = 0) = p

    Args:
        input: floating point, of any shape.
        p: the probability of dropping, from 0 to 1.
        training: whether to drop at all.
        inplace: whether to write the result over ``input``.
        generator: where the mask comes from; by default PyTorch's for the CPU, whatever the device of ``input``.

    Returns:
        A tensor of the shape, type and memory format of ``input``; ``input`` itself where nothing is to be done.

    Raises:
        ValueError: ``p`` is not between 0 and 1.

    Source: Srivastava et al. 2014, "Dropout", section 4, with the scale moved from testing to training.
    """
    _check_probability(p)
    if not training or p == 0:
        return input
    if pytorchs(input, generator):
        return F.dropout(input, p, True, inplace)
    if input.numel() == 0:
        return input
    if p == 1:
        return _nothing_kept(input, inplace)
    return _placed(input, multiplied(input, draw(generator), p), inplace)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop whole channels of (N, C, L) or (C, L) with probability ``p``; arguments and errors as ``dropout``.

    Raises:
        RuntimeError: ``input`` has another number of dimensions.

    Source: Tompson et al. 2015, "Efficient object localization using convolutional networks", section 3.2.
    """
    _check_probability(p)
    if input.ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input")
    return _channels(input, p, training, inplace, generator, batched=input.ndim == 3)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop whole channels of (N, C, H, W) with probability ``p``; arguments and errors as ``dropout``.

    As PyTorch does, it reads three dimensions as (N, C, L), and warns.

    Source: Tompson et al. 2015, "Efficient object localization using convolutional networks", section 3.2.
    """
    _check_probability(p)
    if input.ndim not in (3, 4):
        _warn(f"dropout2d: Received a {input.ndim}-D input to dropout2d, which is deprecated; use dropout instead")
    elif input.ndim == 3:
        _warn("dropout2d: Received a 3D input to dropout2d, which is read as (N, C, L); use dropout1d instead")
    return _channels(input, p, training, inplace, generator)


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Drop whole channels of (N, C, D, H, W) or (C, D, H, W); arguments and errors as ``dropout``.

    Source: Tompson et al. 2015, "Efficient object localization using convolutional networks", section 3.2.
    """
    _check_probability(p)
    if input.ndim not in (4, 5):
        _warn(f"dropout3d: Received a {input.ndim}-D input to dropout3d, which is deprecated; use dropout instead")
    return _channels(input, p, training, inplace, generator, batched=input.ndim == 5)


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Put SELU's floor in the place of elements with probability ``p``, and keep mean 0 and variance 1.

    .. math:: y_i = a (x_i m_i - \alpha (1 - m_i)) + a \alpha p, \qquad a = ((1 - p)(1 + p \alpha^2))^{-1/2}

    with α = 1.758..., the negated value that SELU tends to. Arguments and errors as ``dropout``.

    Source: Klambauer et al. 2017, "Self-normalizing neural networks", section "New dropout technique".
    """
    _check_probability(p)
    if not training or p == 0:
        return input
    if pytorchs(input, generator):
        return F.alpha_dropout(input, p, True, inplace)
    if input.numel() == 0:
        return input
    if p == 1:
        return _nothing_kept(input, inplace)
    return _placed(input, _by_elements(input, None, _alpha(draw(generator), p)), inplace)


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``alpha_dropout`` of whole channels of (N, C, ...)."""
    _check_probability(p)
    return _channels(input, p, training, inplace, generator, alpha=True)


def dropout_add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    eps: float = 1e-5,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Layer norm of ``s = dropout(input) + residual``; returns the normalized tensor and s.

    Args:
        input: (..., *normalized_shape), the output of a transformer's sublayer.
        residual: of the same shape.
        normalized_shape: as ``layer_norm``.
        weight: as ``layer_norm``.
        bias: as ``layer_norm``.
        p: as ``dropout``.
        training: as ``dropout``.
        eps: as ``layer_norm``.
        generator: as ``dropout``.

    Returns:
        Two tensors of the shape of ``input``.

    Raises:
        ValueError: ``p`` is not between 0 and 1, or the shapes differ.
    """
    parameters = (normalized_shape, weight, bias, eps)
    return _add_norm(input, residual, p, training, generator, *parameters, center=True)


def dropout_add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    p: float = 0.5,
    training: bool = True,
    eps: float | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """RMS norm of ``s = dropout(input) + residual``; as ``dropout_add_layer_norm``."""
    parameters = (normalized_shape, weight, None, eps)
    return _add_norm(input, residual, p, training, generator, *parameters, center=False)


def dropout_add(
    input: Tensor,
    residual: Tensor,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``dropout(input) + residual`` in one pass; arguments and errors as ``dropout_add_layer_norm``."""
    _check_residual(input, residual, p)
    if _sum_is_ours(input, residual, p, training, generator):
        return summed(input, residual, draw(generator), p)
    return dropout(input, p, training, generator=generator) + residual


def multiplied(input: Tensor, state: Tensor, p: float) -> Tensor:
    """``dropout(input)`` with a mask that is drawn, 0 < p < 1."""
    return _by_elements(input, None, Noise(state, *rate(p)))


def summed(input: Tensor, residual: Tensor, state: Tensor, p: float) -> Tensor:
    """``dropout(input) + residual`` with a mask that is drawn, 0 < p < 1; shapes and types are the same."""
    return _by_elements(input, residual, Noise(state, *rate(p)))


def summed_and_normalized(
    input: Tensor,
    residual: Tensor,
    state: Tensor,
    p: float,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    center: bool,
) -> tuple[Tensor, Tensor]:
    """Layer norm, or RMS norm with ``center=False``, of ``summed``; returns the norm and the sum."""
    if dropout_norm.serves(input, residual, normalized_shape, weight, bias):
        options = (tuple(normalized_shape), eps, None, center, spec.maybe_form(weight), spec.maybe_form(bias))
        norm = library.known(input, spec.over_last, *options).norm
        return dropout_norm.dropout_add_norm(input, residual, Noise(state, *rate(p)), weight, bias, norm)
    total = summed(input, residual, state, p)
    return _norm(total, normalized_shape, weight, bias, eps, center), total


def draw(generator: torch.Generator | None = None) -> Tensor:
    """The seed and the stream of one call: two numbers of 63 bits, all that a mask needs."""
    if generator is None:
        return torch.randint(_MOST, (2,), device="cpu")
    return torch.randint(_MOST, (2,), device=generator.device, generator=generator)


def rate(p: float) -> tuple[int, float]:
    """The threshold for the rate nearest to ``p``, 0 < p < 1, and the scale 1/(1 - p) of that rate."""
    threshold = round(p * LEVELS) or 1
    if threshold == LEVELS:
        threshold -= 1
    return threshold, LEVELS / (LEVELS - threshold)


def _alpha(state: Tensor, p: float) -> Noise:
    """Alpha dropout at the rate nearest to ``p``."""
    threshold, _ = rate(p)
    p = threshold / LEVELS
    scale = 1 / math.sqrt((1 - p) * (1 + p * _SELU_FLOOR**2))
    shift = scale * _SELU_FLOOR * p
    return Noise(state, threshold, scale, shift, shift - scale * _SELU_FLOOR)


def _add_norm(
    input: Tensor,
    residual: Tensor,
    p: float,
    training: bool,
    generator: torch.Generator | None,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    center: bool,
) -> tuple[Tensor, Tensor]:
    parameters = (normalized_shape, weight, bias, eps, center)
    _check_residual(input, residual, p)
    if _sum_is_ours(input, residual, p, training, generator):
        return summed_and_normalized(input, residual, draw(generator), p, *parameters)
    total = dropout(input, p, training, generator=generator) + residual
    return _norm(total, *parameters), total


def _norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float | None, center: bool
) -> Tensor:
    from levelhead.ops import layer_norm, rms_norm  # which imports this file

    if not center:
        return rms_norm(x, shape, weight, eps)
    return layer_norm(x, shape, weight, bias, 1e-5 if eps is None else eps)


def _check_residual(input: Tensor, residual: Tensor, p: float) -> None:
    _check_probability(p)
    if residual.shape != input.shape:
        raise ValueError(
            f"the residual must have the shape of the input, {tuple(input.shape)}, but got {tuple(residual.shape)}"
        )


def _sum_is_ours(input: Tensor, residual: Tensor, p: float, training: bool, generator: torch.Generator | None) -> bool:
    """Whether something is dropped, by us, and added to what has its type."""
    drops = training and 0 < p < 1 and input.numel() > 0
    return drops and input.dtype == residual.dtype and not pytorchs(input, generator)


def _by_elements(x: Tensor, residual: Tensor | None, noise: Noise) -> Tensor:
    """Elements are numbered as they lie in memory; row by row if there are gaps between them."""
    if x.is_contiguous():
        return masked(x, residual, noise)
    order: list[int] = []
    for axis in range(x.ndim):  # sorted by stride; by comparisons alone, for the compiler knows only those of them
        order.insert(sum(1 for other in order if x.stride(other) >= x.stride(axis)), axis)
    ordered = x.permute(order)
    if not ordered.is_contiguous():
        return masked(x, residual, noise)
    beside = None if residual is None else residual.permute(order)
    y = masked(ordered, beside, noise)
    return y.permute([order.index(axis) for axis in range(x.ndim)])


def _channels(
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: torch.Generator | None,
    batched: bool = True,
    alpha: bool = False,
) -> Tensor:
    """Channels are numbered row by row, whatever the memory format."""
    if not training or p == 0:
        return input
    if batched and input.ndim < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input, got {tuple(input.shape)}")
    if pytorchs(input, generator):
        whole = input if batched else input.unsqueeze(0)
        y = F.feature_alpha_dropout(whole, p, True) if alpha else torch.feature_dropout(whole, p, True)
        return _placed(input, y if batched else y.squeeze(0), inplace)
    if input.numel() == 0:
        return input
    if p == 1:
        return _nothing_kept(input, inplace)
    axes = 2 if batched else 1
    state = draw(generator)
    noise = _alpha(state, p) if alpha else Noise(state, *rate(p))
    ones = torch.ones(input.shape[:axes], dtype=torch.promote_types(input.dtype, torch.float32), device=input.device)
    shape = (*input.shape[:axes], *[1] * (input.ndim - axes))
    y = input * masked(ones, None, noise._replace(shift=0.0, fill=0.0)).view(shape)
    if alpha:
        y = y + masked(0 * ones, None, noise).view(shape)
    return _placed(input, y.to(input.dtype), inplace)


def pytorchs(x: Tensor, generator: torch.Generator | None) -> bool:
    """Whether PyTorch's own dropout does it: exporting or tracing, or a type that we do not know."""
    if x.dtype in _TYPES and not torch.compiler.is_exporting() and torch._C._get_tracing_state() is None:
        return False
    if generator is not None:
        raise NotImplementedError(f"dropout of {x.dtype} takes no generator, nor does an exported one; leave it out")
    return True


def _nothing_kept(x: Tensor, inplace: bool) -> Tensor:
    return x.mul_(0) if inplace else x * 0


def _placed(x: Tensor, y: Tensor, inplace: bool) -> Tensor:
    return x.copy_(y) if inplace else y


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
