"""Kernels that hold a whole set of values in one program: layer and RMS norm, instance and group norm in order.

Forward, x is read once. Backward, the program goes through its rows and adds the gradients of the parameters up, one
value a column, in registers; what the programs found is added by a second stage.
"""

from __future__ import annotations

import triton
import triton.language as tl

from levelhead.ops.triton.elements import activate, affine, double, split, standardized, tile_moments, upstream, wide
from levelhead.ops.triton.random import noise


@triton.jit
def parameter(values, rows, columns, inside, groups, per_group, units, BY_COLUMN: tl.constexpr, UNIT: tl.constexpr):
    """The weight or the bias of a tile: one a column, or one a channel, of which a row has ``per_group``."""
    if values is None:
        return None
    elif BY_COLUMN:  # noqa: RET505  (Triton drops the branches that are not taken, and only so)
        return wide(tl.load(values + columns, mask=columns < units * UNIT, other=0.0))[None, :]
    else:
        channel = (rows % groups * per_group)[:, None] + (columns // (units * UNIT // per_group))[None, :]
        return wide(tl.load(values + channel, mask=inside, other=0.0))


@triton.jit
def forward(
    x,
    residual,
    weight,
    bias,
    y,
    mean,
    var,
    total,
    state,
    threshold,
    scale,
    sets,
    units,
    groups,
    per_group,
    EPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    CENTER: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``y`` and the statistics of whole rows of ``units * UNIT`` values.

    With a ``total``, x is first multiplied by the noise of dropout and added to the residual, and the sum is kept.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    length = units * UNIT
    inside = (rows < sets)[:, None] & (columns < length)[None, :]
    at = rows.to(tl.int64)[:, None] * length + columns[None, :]
    v = wide(tl.load(x + at, mask=inside, other=0.0))
    extra = residual
    if total is not None:
        v = v * noise(state, rows.to(tl.int64) * (length // 8), threshold, scale, ROWS, BLOCK)
        v = (v + wide(tl.load(residual + at, mask=inside, other=0.0))).to(total.dtype.element_ty)
        tl.store(total + at, v, mask=inside)
        v = wide(v)
        extra = None
    elif residual is not None:
        extra = wide(tl.load(residual + at, mask=inside, other=0.0))
    count = double(length)
    m, m2 = tile_moments(v, inside, count, CENTER)
    variance = m2 / count
    tl.store(mean + rows, m, mask=rows < sets)
    tl.store(var + rows, variance, mask=rows < sets)
    high, low = split(m, v)
    rstd = (1 / tl.sqrt(variance + EPS)).to(v.dtype)
    z = standardized(v, high[:, None], low[:, None], rstd[:, None])
    w = parameter(weight, rows, columns, inside, groups, per_group, units, BY_COLUMN, UNIT)
    b = parameter(bias, rows, columns, inside, groups, per_group, units, BY_COLUMN, UNIT)
    tl.store(y + at, activate(affine(z, w, b, extra), ACTIVATION), mask=inside)


@triton.jit
def backward(
    dy,
    x,
    mean,
    var,
    weight,
    bias,
    residual,
    sums,
    dx,
    dresidual,
    dweight,
    dbias,
    dtotal,
    state,
    threshold,
    scale,
    sets,
    units,
    programs,
    EPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    CENTER: tl.constexpr,
    DROPS: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``dx`` and ``dresidual``, and what this program adds to ``dweight`` and ``dbias`` of (programs, length).

    ``sums`` (2, sets) holds the means of dz and of dz z where a row is longer than a block; else they are taken here.
    With DROPS, x is the sum behind a dropout: the gradient of the sum, to which ``dtotal`` adds, is ``dresidual``, and
    ``dx`` is that times the noise.
    """
    program = tl.program_id(0) % programs
    columns = tl.program_id(0) // programs * BLOCK + tl.arange(0, BLOCK)
    length = units * UNIT
    within = columns < length
    w = None
    b = None
    if weight is not None:
        w = wide(tl.load(weight + columns, mask=within, other=0.0))[None, :]
    if bias is not None:
        b = wide(tl.load(bias + columns, mask=within, other=0.0))[None, :]
    weight_sum = wide(tl.zeros([BLOCK], x.dtype.element_ty))
    bias_sum = weight_sum
    for start in range(program * ROWS, sets, programs * ROWS):
        rows = start + tl.arange(0, ROWS)
        real = rows < sets
        inside = real[:, None] & within[None, :]
        at = rows.to(tl.int64)[:, None] * length + columns[None, :]
        v = wide(tl.load(x + at, mask=inside, other=0.0))
        g = wide(tl.load(dy + at, mask=inside, other=0.0))
        high, low = split(tl.load(mean + rows, mask=real, other=0.0), v)
        rstd = (1 / tl.sqrt(tl.load(var + rows, mask=real, other=1.0) + EPS)).to(v.dtype)[:, None]
        z = standardized(v, high[:, None], low[:, None], rstd)  # outside g is 0, so that nothing comes of it
        r = None
        if residual is not None:
            r = wide(tl.load(residual + at, mask=inside, other=0.0))
        g = upstream(g, z, w, b, r, ACTIVATION)
        if dresidual is not None and not DROPS:
            tl.store(dresidual + at, g, mask=inside)
        weight_sum += tl.sum(g * z, 0)
        bias_sum += tl.sum(g, 0)
        dz = g
        if weight is not None:
            dz = g * w
        if sums is None:
            along = (tl.sum(dz * z, 1) / length)[:, None]
            level = (tl.sum(dz, 1) / length)[:, None]
        else:
            level = tl.load(sums + rows, mask=real, other=0.0).to(v.dtype)[:, None]
            along = tl.load(sums + sets + rows, mask=real, other=0.0).to(v.dtype)[:, None]
        inner = dz - z * along
        if CENTER:
            inner = inner - level
        result = inner * rstd
        if dtotal is not None:
            result = result + wide(tl.load(dtotal + at, mask=inside, other=0.0))
        if DROPS:
            tl.store(dresidual + at, result, mask=inside)
            first = rows.to(tl.int64) * (length // 8) + tl.program_id(0) // programs * (BLOCK // 8)
            result = result * noise(state, first, threshold, scale, ROWS, BLOCK)
        tl.store(dx + at, result, mask=inside)
    place = program.to(tl.int64) * length + columns
    if dweight is not None:
        tl.store(dweight + place, weight_sum, mask=within)
    if dbias is not None:
        tl.store(dbias + place, bias_sum, mask=within)
