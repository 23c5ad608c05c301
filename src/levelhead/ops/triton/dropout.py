"""The calls of dropout's kernels, with the arguments of ``cpu``'s."""

from __future__ import annotations

import torch
from torch import Tensor

from levelhead.ops import spec
from levelhead.ops.philox import Noise
from levelhead.ops.spec import Norm
from levelhead.ops.triton import launch, norms, random


def serves_rows(length: int) -> bool:
    """Whether ``add_norm`` can do rows of this length: a program holds one, and it begins with a block of the mask."""
    return length % 8 == 0 and length <= launch.WHOLE_BACKWARD


def dropout(x: Tensor, residual: Tensor | None, noise: Noise) -> Tensor:
    """``philox.dropout``, with the same mask bit for bit."""
    x = x.contiguous()
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    y = torch.empty_like(x)
    tiles = launch.Elements.of(x.numel())
    launch.start(
        random.dropout,
        tiles.programs,
        x,
        *(x, residual, y, *_placed(noise, x), x.numel()),
        OFFSET=bool(noise.shift or noise.fill),
        BLOCK=tiles.block,
        num_warps=tiles.warps,
    )
    return y


def add_norm(
    x: Tensor, residual: Tensor, noise: Noise, weight: Tensor | None, bias: Tensor | None, norm: Norm
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``cpu.add_norm``."""
    y, total = torch.empty_like(x), torch.empty_like(x)
    stats = x.new_empty((2, *norm.shape(x.shape)), dtype=torch.float64)
    norms.forward_rows(x, residual, weight, bias, y, stats, _view(x, norm), norm, total, _placed(noise, x))
    return y, total, stats


def add_norm_backward(
    dy: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    stats: Tensor,
    noise: Noise,
    weight: Tensor | None,
    bias: Tensor | None,
    norm: Norm,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As ``cpu.add_norm_backward``."""
    dx, dresidual = torch.empty_like(total), torch.empty_like(total)
    inputs = (dy.contiguous(), total, stats[0], stats[1], weight, bias, None, None)
    dtotal = None if dtotal is None else dtotal.contiguous()
    options = {"EPS": norm.eps, "ACTIVATION": "", "CENTER": norm.center}
    placed = _placed(noise, total)
    dweight, dbias = norms.backward_rows(inputs, dx, dresidual, _view(total, norm), options, dtotal, placed)
    return (
        dx,
        dresidual,
        None if weight is None else dweight.to(weight.dtype).view(weight.shape),
        None if bias is None else dbias.to(bias.dtype).view(bias.shape),
    )


def _view(x: Tensor, norm: Norm) -> norms.View:
    _, form = spec.laid(x, norm)
    assert form is not None
    return norms.View.of(form)


def _placed(noise: Noise, x: Tensor) -> Noise:
    """With the two numbers where ``x`` is; a copy of 16 bytes, which the host does not wait for."""
    return noise._replace(state=noise.state.to(x.device, non_blocking=True).contiguous())
