"""The arithmetic of folding: a layer takes in the affine map before or after it. In float64, rounded once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


class CannotFold(Exception):
    """Why not, in words."""


def affine_of(norm: _NormBase) -> tuple[Tensor, Tensor]:
    """The map of a normalization by its running estimates: y = scale x + shift per channel, float64."""
    if norm.running_mean is None or norm.running_var is None or not norm.track_running_stats:
        raise CannotFold("it keeps no running statistics")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


@torch.no_grad()
def absorb_after(layer: Any, scale: Tensor, shift: Tensor) -> None:
    """``layer`` becomes scale · layer(x) + shift, per output channel.

    Raises:
        CannotFold: the channels are not the outputs.
    """
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if channels != len(scale):
        raise CannotFold(f"it has {len(scale)} channels, and the layer before it {channels} outputs")
    weight = layer.weight.double()
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, ...)
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        factor = scale.view(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
        weight = (grouped * factor).reshape(weight.shape)
    else:
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    _set(layer, weight, shift if layer.bias is None else layer.bias.double() * scale + shift)


@torch.no_grad()
def absorb_before(layer: Any, factor: Tensor, shift: Tensor) -> None:
    """``layer`` becomes layer(factor x + shift), per input channel; the factor may be a matrix.

    Raises:
        CannotFold: the channels are not the inputs, or the border of the result would be another one.
    """
    linear, transposed = isinstance(layer, nn.Linear), isinstance(layer, _ConvTransposeNd)
    inputs, groups = (layer.in_features, 1) if linear else (layer.in_channels, layer.groups)
    if inputs % len(shift) or not (linear or inputs == len(shift)):
        raise CannotFold(f"it has {len(shift)} channels, and the layer behind it {inputs} inputs")
    if not linear and bool((shift != 0).any()):
        _check_border(layer)
    if factor.ndim == 2 and groups > 1:
        raise CannotFold("the groups of the convolution behind it do not mix all channels, as whitening does")
    weight = layer.weight.double()
    wide = weight.unflatten(1, (len(shift), -1)) if linear else weight  # a Flatten puts channel by channel
    grouped, ones = wide.reshape(groups, -1, *wide.shape[1:]), [1] * (wide.ndim - 2)
    if factor.ndim == 2:
        new = torch.einsum("io...,ij->jo..." if transposed else "oi...,ij->oj...", wide, factor)
    else:
        new = wide * factor.view(-1, 1, *ones) if transposed else grouped * factor.view(groups, 1, -1, *ones)
    bias = None if layer.bias is None else layer.bias.double()
    if not transposed:  # there the shift is 0
        more = (grouped * shift.view(groups, 1, -1, *ones)).flatten(2).sum(2).flatten()
        bias = more if bias is None else bias + more
    _set(layer, new.reshape(weight.shape), bias)


def _check_border(layer: _ConvNd) -> None:
    """A shift can move behind a convolution only where each output sees all of the kernel."""
    if isinstance(layer, _ConvTransposeNd):
        raise CannotFold("it shifts, and not every output of a transposed convolution sees the whole kernel")
    if isinstance(layer.padding, str):
        spans = (d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        pads = layer.padding == "same" and any(spans)
    else:
        pads = math.prod(p + 1 for p in layer.padding) > 1
    if pads and layer.padding_mode == "zeros":
        raise CannotFold("it shifts, and the zeros that the convolution behind it pads with would be shifted, too")


def _set(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight)
    if bias is not None and layer.bias is None:
        layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
    elif bias is not None:
        layer.bias.copy_(bias)
