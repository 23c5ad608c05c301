"""The calls of dropout's kernels, with the arguments of ``cpu_dropout``'s."""

from __future__ import annotations

import torch
from torch import Tensor

from levelhead.ops import layouts
from levelhead.ops.triton import launch, norms, random


def serves_rows(length: int) -> bool:
    """Whether ``add_norm`` can do rows of this length: a program holds one, and it begins with a block of the mask."""
    return length % 8 == 0 and length <= launch.WHOLE_BACKWARD


def dropout(
    x: Tensor, residual: Tensor | None, state: Tensor, threshold: int, scale: float, shift: float, fill: float
) -> Tensor:
    """``philox.dropout``, with the same mask bit for bit."""
    x = x.contiguous()
    residual = None if residual is None else residual.to(x.dtype).contiguous()
    y = torch.empty_like(x)
    tiles = launch.Elements.of(x.numel())
    launch.start(
        random.dropout,
        tiles.programs,
        x,
        *(x, residual, y, _placed(state, x), threshold, scale, shift, fill, x.numel()),
        OFFSET=bool(shift or fill),
        BLOCK=tiles.block,
        num_warps=tiles.warps,
    )
    return y


def add_norm(
    x: Tensor,
    residual: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    length: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``cpu_dropout.add_norm``."""
    view = _view(x, length)
    y, total = torch.empty_like(x), torch.empty_like(x)
    mean, var = (x.new_empty(view.sets, dtype=torch.float64) for _ in range(2))
    drawn = (total, _placed(state, x), threshold, scale)
    norms.forward_rows(x, residual, weight, bias, y, mean, var, view, eps, "", center, *drawn)
    return y, total, mean, var


def add_norm_backward(
    dy: Tensor,
    dtotal: Tensor | None,
    total: Tensor,
    mean: Tensor,
    var: Tensor,
    state: Tensor,
    threshold: int,
    scale: float,
    length: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As ``cpu_dropout.add_norm_backward``."""
    dx, dresidual = torch.empty_like(total), torch.empty_like(total)
    inputs = (dy.contiguous(), total, mean, var, weight, bias, None, None)
    dtotal = None if dtotal is None else dtotal.contiguous()
    options = {"EPS": eps, "ACTIVATION": "", "CENTER": center}
    drawn = (dtotal, _placed(state, total), threshold, scale)
    dweight, dbias = norms.backward_rows(inputs, dx, dresidual, _view(total, length), options, *drawn)
    return (
        dx,
        dresidual,
        None if weight is None else dweight.to(weight.dtype).view(weight.shape),
        None if bias is None else dbias.to(bias.dtype).view(bias.shape),
    )


def _view(x: Tensor, length: int) -> norms.View:
    return norms.View.of(layouts.Plan(layouts.ROWS, False, x.numel() // length, 1, length, 1))


def _placed(state: Tensor, x: Tensor) -> Tensor:
    """The two numbers where ``x`` is; a copy of 16 bytes, which the host does not wait for."""
    return state.to(x.device, non_blocking=True).contiguous()
