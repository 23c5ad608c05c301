"""Which kernels serve a norm, and the calls of them.

A set of values that lies in one piece and fits into a program goes to ``rows``; every other to ``channels``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelhead.ops import spec
from levelhead.ops.philox import Noise
from levelhead.ops.spec import Layout, Norm
from levelhead.ops.triton import channels, launch, rows
from levelhead.ops.triton.launch import start

_Maybe = Tensor | None

_NONE = None, 0, 0.0  # what drops nothing: no numbers of a mask


class View(NamedTuple):
    """A tensor as (outer, channels, positions): sizes, strides, and which cells share their statistics.

    Position k is the (k % inner)-th of block k // inner. ``last``: channels are dense in memory and positions
    ``stride`` apart, else the other way around. The set of channel c is c // per_group of outer's ``groups``.
    """

    outer: int
    channels: int
    positions: int
    inner: int
    outer_stride: int
    stride: int
    block_stride: int
    last: bool
    groups: int
    per_group: int
    by_position: bool

    @classmethod
    def of(cls, form: Layout) -> View:
        """The view of a planned tensor."""
        layout, across, n, c, l, groups = form  # noqa: E741  (the length, as there)
        if layout == spec.ROWS:
            return cls(n, 1, l, l, l, 0, 0, False, 1, 1, True)
        last = layout == spec.COLUMNS
        stride = c if last else l
        if across:
            return cls(1, c, n * l, l, 0, stride, c * l, last, c, 1, False)
        return cls(n, c, l, l, c * l, stride, 0, last, groups, c // groups, False)

    @property
    def unit(self) -> int:
        """The largest power of two, up to 16, of values that are dense in memory and aligned together."""
        if self.large:  # sizes go to the kernel as they are, for in 32 bits no product of theirs may overflow
            return 1
        return launch.unit(self.channels if self.last else self.inner)

    @property
    def large(self) -> bool:
        """Whether places in memory need numbers of 64 bits."""
        return self.outer * self.channels * self.positions >= 2**31

    @property
    def sets(self) -> int:
        """How many sets of values have statistics of their own."""
        return self.outer * self.groups

    @property
    def values(self) -> int:
        """How many values a set has."""
        return self.positions * self.per_group


class Call(NamedTuple):
    """A view and its tiles, as the arguments of the kernels in ``channels``."""

    view: View
    tiles: launch.Channels

    @classmethod
    def of(cls, view: View) -> Call:
        """The tiles for the view."""
        return cls(view, launch.Channels.of(view.outer, view.channels, view.positions, view.last))

    @property
    def programs(self) -> int:
        """How many there are."""
        blocks = -(-self.view.channels // self.tiles.block_c)
        return self.view.outer * blocks * self.tiles.chunks

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers that every kernel takes."""
        v, unit = self.view, self.view.unit
        dense = (
            (v.channels // unit, v.positions, v.inner) if v.last else (v.channels, v.positions // unit, v.inner // unit)
        )
        strides = (v.outer_stride // unit, v.stride // unit, v.block_stride // unit)
        return *dense, *strides, self.tiles.steps, self.tiles.chunks

    @property
    def options(self) -> dict[str, Any]:
        """The constants that every kernel takes."""
        v = self.view
        return {
            "LAST": v.last,
            "UNIT": v.unit,
            "FLAT": v.inner == v.positions,
            "LARGE": v.large,
            "BLOCK_C": self.tiles.block_c,
            "BLOCK_K": self.tiles.block_k,
            "num_warps": self.tiles.warps,
        }


def forward(
    x: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    norm: Norm,
    stats: _Maybe = None,
    overwrite: bool = False,
) -> tuple[Tensor, Tensor]:
    """See ``levelhead.ops.cpu.Plan.forward``."""
    laid, form = spec.laid(x, norm)
    assert form is not None  # of every tensor with elements and without a mask
    y = laid if overwrite and laid is x else torch.empty_like(laid)
    residual = None if residual is None else spec.like(residual, laid)
    weight, bias = _dense(weight), _dense(bias)
    view = View.of(form)
    given = stats is not None
    stats = (
        x.new_empty((2, *norm.shape(x.shape)), dtype=torch.float64) if stats is None else stats.double().contiguous()
    )
    whole = form.layout != spec.COLUMNS and not form.across and launch.whole_forward(view.sets, view.values)
    if whole and not given:
        forward_rows(laid, residual, weight, bias, y, stats, view, norm)
    else:
        call = Call.of(view)
        if not given:
            _statistics(call, laid, stats, norm.center)
        _apply(call, laid, residual, weight, bias, stats, y, norm)
    return spec.back(y, x, norm), stats


def forward_rows(
    x: Tensor,
    residual: _Maybe,
    weight: _Maybe,
    bias: _Maybe,
    y: Tensor,
    stats: Tensor,
    view: View,
    norm: Norm,
    total: _Maybe = None,
    noise: Noise | None = None,
) -> None:
    """Start ``rows.forward``."""
    tiles = launch.Rows.forward(view.sets, view.values, residual is not None or norm.activation != "")
    unit = launch.unit(view.values)
    start(
        rows.forward,
        tiles.programs,
        x,
        *(x, residual, weight, bias, y, stats[0], stats[1], total, *(noise or _NONE)[:3]),
        *(view.sets, view.values // unit, view.groups, view.per_group),
        EPS=norm.eps,
        ACTIVATION=norm.activation,
        CENTER=norm.center,
        BY_COLUMN=view.by_position,
        UNIT=unit,
        ROWS=tiles.rows,
        BLOCK=tiles.block,
        num_warps=tiles.warps,
    )


def _statistics(call: Call, x: Tensor, stats: Tensor, center: bool) -> None:
    """Moments of the chunks, then of the sets."""
    view, tiles = call
    means, m2s = (x.new_empty((view.outer, view.channels, tiles.chunks), dtype=torch.float64) for _ in range(2))
    start(channels.moments, call.programs, x, x, means, m2s, *call.sizes, CENTER=center, **call.options)
    members, size = view.per_group * tiles.chunks, tiles.steps * tiles.block_k
    sizes = (members, view.positions, size, tiles.chunks)
    block = min(launch.power(members), 1024)
    start(
        channels.merge,
        view.sets,
        x,
        means,
        m2s,
        stats[0],
        stats[1],
        *sizes,
        CENTER=center,
        BLOCK=block,
        num_warps=1 if block < 256 else 4,
    )


def _apply(
    call: Call, x: Tensor, residual: _Maybe, weight: _Maybe, bias: _Maybe, stats: Tensor, y: Tensor, norm: Norm
) -> None:
    view = call.view
    tensors = (x, residual, weight, bias, stats[0], stats[1], y)
    more = {"EPS": norm.eps, "ACTIVATION": norm.activation, "BY_POSITION": view.by_position}
    start(channels.apply, call.programs, x, *tensors, *call.sizes, view.groups, view.per_group, **more, **call.options)


def backward(
    dy: Tensor,
    x: Tensor,
    weight: _Maybe,
    bias: _Maybe,
    residual: _Maybe,
    norm: Norm,
    stats: Tensor,
    from_output: bool = False,
) -> tuple[_Maybe, ...]:
    """See ``levelhead.ops.cpu.Plan.backward``."""
    laid, form = spec.laid(x, norm)
    assert form is not None
    stats = stats.double().contiguous()  # an operator may be called with any
    dx = torch.empty_like(laid)
    dresidual = None if residual is None else torch.empty_like(laid)
    call = Call.of(View.of(form))
    tensors = (
        *(spec.like(dy, laid), laid, None if residual is None else spec.like(residual, laid)),
        *(_dense(weight), _dense(bias), stats[0], stats[1]),
    )
    options = {"EPS": norm.eps, "ACTIVATION": norm.activation}
    if form.layout == spec.ROWS:
        dweight, dbias = _backward_rows(call, tensors, dx, dresidual, norm.center, options)
    else:
        given = norm.over == "given"
        dweight, dbias = _backward_channels(call, tensors, dx, dresidual, norm.center, given, from_output, options)
    return (
        spec.back(dx, x, norm),
        None if weight is None else dweight.to(weight.dtype).view(weight.shape),
        None if bias is None else dbias.to(bias.dtype).view(bias.shape),
        None if dresidual is None or residual is None else spec.like(dresidual, residual),
    )


def _sums(call: Call, tensors: tuple[_Maybe, ...], from_output: bool, options: dict[str, Any]) -> Tensor:
    """Σg and Σg z (of dz where the weight is by position) of each cell: (2, outer, channels), in float64."""
    view, tiles = call
    x = tensors[1]
    assert x is not None
    cells = view.outer * view.channels
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    found = x.new_empty((2, view.outer, view.channels, tiles.chunks), dtype=dtype)
    sizes = (cells, *call.sizes, view.groups, view.per_group)
    more = {"BY_POSITION": view.by_position, "FROM_OUTPUT": from_output}
    start(channels.sums, call.programs, x, *tensors, found, *sizes, **options, **more, **call.options)
    return found.sum(-1, dtype=torch.float64)


def _backward_channels(
    call: Call,
    tensors: tuple[_Maybe, ...],
    dx: Tensor,
    dresidual: _Maybe,
    center: bool,
    constant: bool,
    from_output: bool,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Writes ``dx`` and ``dresidual``; returns the gradients of weight and bias."""
    view = call.view
    weight = tensors[3]
    cells = _sums(call, tensors, from_output, options)
    averages = None
    if not constant:
        weighted = cells if weight is None else cells * weight.view(view.channels)
        averages = weighted.view(2, view.sets, view.per_group).sum(-1) / view.values
    sizes = (view.sets, *call.sizes, view.groups, view.per_group)
    more = {"CENTER": center, "FROM_OUTPUT": from_output}
    start(
        channels.apply_backward,
        call.programs,
        dx,
        *(*tensors, averages, dx, dresidual, *sizes),
        **options,
        **more,
        **call.options,
    )
    dbias, dweight = cells.sum(1)
    return dweight, dbias


def _backward_rows(
    call: Call,
    tensors: tuple[_Maybe, ...],
    dx: Tensor,
    dresidual: _Maybe,
    center: bool,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """As ``_backward_channels`` where the parameters are one a column."""
    view = call.view
    averages = None
    fused = tensors[2] is not None or options["ACTIVATION"] != ""
    if not launch.whole_backward(view.sets, view.values, fused):
        averages = _sums(call, tensors, False, options).view(2, view.sets) / view.values
    dy, x, residual, weight, bias, mean, var = tensors
    inputs = (dy, x, mean, var, weight, bias, residual, averages)
    return backward_rows(inputs, dx, dresidual, view, {**options, "CENTER": center})


def backward_rows(
    inputs: tuple[_Maybe, ...],
    dx: Tensor,
    dresidual: _Maybe,
    view: View,
    options: dict[str, Any],
    dtotal: _Maybe = None,
    noise: Noise | None = None,
) -> tuple[Tensor, Tensor]:
    """Start ``rows.backward`` and add up what its programs found; what is None has an empty gradient."""
    fused = inputs[6] is not None or options["ACTIVATION"] != ""
    tiles = launch.Rows.backward(view.sets, view.values, fused)
    dtype = torch.float64 if dx.dtype == torch.float64 else torch.float32
    weight, bias = inputs[4], inputs[5]
    dweight, dbias = (
        None if p is None else dx.new_empty((tiles.programs, view.values), dtype=dtype) for p in (weight, bias)
    )
    unit = launch.unit(view.values)
    start(
        rows.backward,
        tiles.programs * -(-view.values // tiles.block),
        dx,
        *(*inputs, dx, dresidual, dweight, dbias, dtotal, *(noise or _NONE)[:3]),
        *(view.sets, view.values // unit, tiles.programs),
        **options,
        DROPS=noise is not None,
        UNIT=unit,
        ROWS=tiles.rows,
        BLOCK=tiles.block,
        num_warps=tiles.warps,
    )
    none = dx.new_empty(0)
    return (
        none if dweight is None else dweight.sum(0, dtype=torch.float64),
        none if dbias is None else dbias.sum(0, dtype=torch.float64),
    )


def _dense(parameter: _Maybe) -> _Maybe:
    return None if parameter is None else parameter.contiguous()
