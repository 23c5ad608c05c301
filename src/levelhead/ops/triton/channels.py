"""Kernels for sets of values that are spread over memory, or too long for one program: batch norm above all.

x is (outer, channels, positions) with any strides, where a cell, the values of one channel under one outer index, is
the finest thing that has moments. Chunks of cells are reduced by one program each, and what they found is merged:

1. ``moments``: count, mean and M2 of the chunks; ``merge``: the statistics of a set, from those of its chunks;
2. ``apply``: y.

Backward likewise: ``sums`` of the chunks, added by a second stage, then ``apply_backward``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from levelhead.ops.triton.elements import (
    activate,
    affine,
    double,
    inverse,
    merged,
    split,
    standardized,
    tile_moments,
    upstream,
    wide,
)


@triton.jit
def sizes(channels, positions, inner, LAST: tl.constexpr, UNIT: tl.constexpr):
    """Undoes the division of what is dense in memory by UNIT, from which the compiler learns how it is aligned."""
    if LAST:
        return channels * UNIT, positions, inner
    else:  # noqa: RET505  (Triton drops the branch that is not taken, and only so)
        return channels, positions * UNIT, inner * UNIT


@triton.jit
def place(channels, chunks, LARGE: tl.constexpr, BLOCK_C: tl.constexpr):
    """The outer index, the channels and the chunk of this program; LARGE: places need numbers of 64 bits."""
    program = tl.program_id(0)
    rest = program // chunks
    chunk = program % chunks
    blocks = tl.cdiv(channels, BLOCK_C)
    c = rest % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    if LARGE:
        c, chunk = c.to(tl.int64), chunk.to(tl.int64)
    return (rest // blocks).to(tl.int64), c, chunk


@triton.jit
def offsets(
    outer,
    c,
    k,
    inner,
    outer_stride,
    stride,
    block_stride,
    LAST: tl.constexpr,
    UNIT: tl.constexpr,
    FLAT: tl.constexpr,
):
    """Where a tile lies: position k is the (k % inner)-th of block k // inner; FLAT: there is one block.

    LAST: channels are dense and positions ``stride * UNIT`` apart; else the other way around.
    """
    base = outer * (outer_stride * UNIT)
    if LAST:
        within = base + k * (stride * UNIT)
        return c[:, None] + within[None, :]
    elif FLAT:  # noqa: RET505
        within = base + c * (stride * UNIT)
        return within[:, None] + k[None, :]
    else:
        within = base + c * (stride * UNIT)
        return within[:, None] + (k // inner * (block_stride * UNIT) + k % inner)[None, :]


@triton.jit
def by_channel(values, c, channels, BY_POSITION: tl.constexpr):
    """The weight or the bias of the channels of a tile; None where there is none, or one a position."""
    if BY_POSITION or values is None:
        return None
    else:  # noqa: RET505  (Triton drops the branch that is not taken, and only so)
        return wide(tl.load(values + c, mask=c < channels, other=1.0))[:, None]


@triton.jit
def by_position(values, k, positions, found, BY_POSITION: tl.constexpr):
    """The weight or the bias of the positions of a tile, where they have one; else what was found by channel."""
    if BY_POSITION and values is not None:
        return wide(tl.load(values + k, mask=k < positions, other=0.0))[None, :]
    else:  # noqa: RET505
        return found


@triton.jit
def moments(
    x,
    means,
    m2s,
    channels,
    positions,
    inner,
    outer_stride,
    stride,
    block_stride,
    steps,
    chunks,
    CENTER: tl.constexpr,
    LAST: tl.constexpr,
    UNIT: tl.constexpr,
    FLAT: tl.constexpr,
    LARGE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Mean and M2 of each chunk of each cell, as (outer, channels, chunks) in float64."""
    channels, positions, inner = sizes(channels, positions, inner, LAST, UNIT)
    outer, c, chunk = place(channels, chunks, LARGE, BLOCK_C)
    mean = tl.zeros([BLOCK_C], tl.float64)
    m2 = tl.zeros([BLOCK_C], tl.float64)
    begin = chunk * steps * BLOCK_K
    for start in range(begin, tl.minimum(begin + steps * BLOCK_K, positions), BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = (c < channels)[:, None] & (k < positions)[None, :]
        at = offsets(outer, c, k, inner, outer_stride, stride, block_stride, LAST, UNIT, FLAT)
        v = wide(tl.load(x + at, mask=inside, other=0.0))
        more = double(tl.minimum(positions - start, BLOCK_K))
        mean_more, m2_more = tile_moments(v, inside, more, CENTER)
        mean, m2 = merged(double(start - begin), mean, m2, more, mean_more, m2_more)
    at = (outer * channels + c) * chunks + chunk
    tl.store(means + at, mean, mask=c < channels)
    tl.store(m2s + at, m2, mask=c < channels)


@triton.jit
def merge(means, m2s, mean, var, members, positions, chunk_size, chunks, CENTER: tl.constexpr, BLOCK: tl.constexpr):
    """The statistics of one set from its ``members`` chunks, which lie side by side."""
    set_ = tl.program_id(0).to(tl.int64)
    total = double(members // chunks) * positions
    average = tl.zeros([BLOCK], tl.float64)
    if CENTER:
        for start in range(0, members, BLOCK):
            i = (start + tl.arange(0, BLOCK)).to(tl.int64)
            count = tl.minimum(positions - i % chunks * chunk_size, chunk_size)
            average += tl.load(means + set_ * members + i, mask=i < members, other=0.0) * (count / total)
    m = tl.sum(average, 0)
    m2 = tl.zeros([BLOCK], tl.float64)
    for start in range(0, members, BLOCK):
        i = (start + tl.arange(0, BLOCK)).to(tl.int64)
        count = tl.minimum(positions - i % chunks * chunk_size, chunk_size)
        m2 += tl.load(m2s + set_ * members + i, mask=i < members, other=0.0)
        if CENTER:
            delta = tl.load(means + set_ * members + i, mask=i < members, other=0.0) - m
            m2 += tl.where(i < members, delta * delta * count, 0.0)
    tl.store(mean + set_, m)
    tl.store(var + set_, tl.sum(m2 / total, 0))


@triton.jit
def apply(
    x,
    residual,
    weight,
    bias,
    mean,
    var,
    y,
    channels,
    positions,
    inner,
    outer_stride,
    stride,
    block_stride,
    steps,
    chunks,
    groups,
    per_group,
    EPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BY_POSITION: tl.constexpr,
    LAST: tl.constexpr,
    UNIT: tl.constexpr,
    FLAT: tl.constexpr,
    LARGE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``y`` with given statistics; ``y`` may be ``x``."""
    channels, positions, inner = sizes(channels, positions, inner, LAST, UNIT)
    outer, c, chunk = place(channels, chunks, LARGE, BLOCK_C)
    real = c < channels
    sets = outer * groups + c // per_group
    m = tl.load(mean + sets, mask=real, other=0.0)
    variance = tl.load(var + sets, mask=real, other=1.0)
    high, low = split(m, wide(tl.zeros([1], x.dtype.element_ty)))
    rstd = (1 / tl.sqrt(variance + EPS)).to(high.dtype)
    channel_weight = by_channel(weight, c, channels, BY_POSITION)
    channel_bias = by_channel(bias, c, channels, BY_POSITION)
    begin = chunk * steps * BLOCK_K
    for start in range(begin, tl.minimum(begin + steps * BLOCK_K, positions), BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = real[:, None] & (k < positions)[None, :]
        at = offsets(outer, c, k, inner, outer_stride, stride, block_stride, LAST, UNIT, FLAT)
        z = standardized(wide(tl.load(x + at, mask=inside, other=0.0)), high[:, None], low[:, None], rstd[:, None])
        r = None
        if residual is not None:
            r = wide(tl.load(residual + at, mask=inside, other=0.0))
        w = by_position(weight, k, positions, channel_weight, BY_POSITION)
        b = by_position(bias, k, positions, channel_bias, BY_POSITION)
        tl.store(y + at, activate(affine(z, w, b, r), ACTIVATION), mask=inside)


@triton.jit
def recovered(v, weight, bias, high, low, rstd, ACTIVATION: tl.constexpr, FROM_OUTPUT: tl.constexpr):
    """``z``, from x or from the output of the forward pass."""
    if FROM_OUTPUT:
        z = inverse(v, ACTIVATION)
        if bias is not None:
            z = z - bias
        if weight is not None:
            z = z / weight
        return z
    else:  # noqa: RET505  (Triton drops the branch that is not taken, and only so)
        return standardized(v, high, low, rstd)


@triton.jit
def sums(
    dy,
    x,
    residual,
    weight,
    bias,
    mean,
    var,
    found,
    cells,
    channels,
    positions,
    inner,
    outer_stride,
    stride,
    block_stride,
    steps,
    chunks,
    groups,
    per_group,
    EPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BY_POSITION: tl.constexpr,
    FROM_OUTPUT: tl.constexpr,
    LAST: tl.constexpr,
    UNIT: tl.constexpr,
    FLAT: tl.constexpr,
    LARGE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Σg and Σg z of each chunk of each cell, (2, outer, channels, chunks); of dz = g w where w is by position."""
    channels, positions, inner = sizes(channels, positions, inner, LAST, UNIT)
    outer, c, chunk = place(channels, chunks, LARGE, BLOCK_C)
    real = c < channels
    sets = outer * groups + c // per_group
    high, low = split(tl.load(mean + sets, mask=real, other=0.0), wide(tl.zeros([1], x.dtype.element_ty)))
    rstd = (1 / tl.sqrt(tl.load(var + sets, mask=real, other=1.0) + EPS)).to(high.dtype)
    channel_weight = by_channel(weight, c, channels, BY_POSITION)
    channel_bias = by_channel(bias, c, channels, BY_POSITION)
    plain = wide(tl.zeros([BLOCK_C, BLOCK_K], x.dtype.element_ty))
    along = plain
    begin = chunk * steps * BLOCK_K
    for start in range(begin, tl.minimum(begin + steps * BLOCK_K, positions), BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = real[:, None] & (k < positions)[None, :]
        at = offsets(outer, c, k, inner, outer_stride, stride, block_stride, LAST, UNIT, FLAT)
        v = wide(tl.load(x + at, mask=inside, other=0.0))
        g = wide(tl.load(dy + at, mask=inside, other=0.0))
        r = None
        if residual is not None:
            r = wide(tl.load(residual + at, mask=inside, other=0.0))
        w = by_position(weight, k, positions, channel_weight, BY_POSITION)
        b = by_position(bias, k, positions, channel_bias, BY_POSITION)
        z = recovered(v, w, b, high[:, None], low[:, None], rstd[:, None], ACTIVATION, FROM_OUTPUT)
        g = upstream(g, z, w, b, r, ACTIVATION)
        if BY_POSITION and weight is not None:
            g = g * w
        plain += g
        along += g * z
    at = (outer * channels + c) * chunks + chunk
    tl.store(found + at, tl.sum(plain, 1), mask=real)
    tl.store(found + cells * chunks + at, tl.sum(along, 1), mask=real)


@triton.jit
def apply_backward(
    dy,
    x,
    residual,
    weight,
    bias,
    mean,
    var,
    averages,
    dx,
    dresidual,
    sets_in_all,
    channels,
    positions,
    inner,
    outer_stride,
    stride,
    block_stride,
    steps,
    chunks,
    groups,
    per_group,
    EPS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    CENTER: tl.constexpr,
    FROM_OUTPUT: tl.constexpr,
    LAST: tl.constexpr,
    UNIT: tl.constexpr,
    FLAT: tl.constexpr,
    LARGE: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """``dx`` and ``dresidual``; ``averages`` (2, sets) of dz and dz z, None where the statistics are constants."""
    channels, positions, inner = sizes(channels, positions, inner, LAST, UNIT)
    outer, c, chunk = place(channels, chunks, LARGE, BLOCK_C)
    real = c < channels
    sets = outer * groups + c // per_group
    high, low = split(tl.load(mean + sets, mask=real, other=0.0), wide(tl.zeros([1], x.dtype.element_ty)))
    rstd = (1 / tl.sqrt(tl.load(var + sets, mask=real, other=1.0) + EPS)).to(high.dtype)
    w = by_channel(weight, c, channels, False)
    b = by_channel(bias, c, channels, False)
    if averages is not None:
        level = tl.load(averages + sets, mask=real, other=0.0).to(high.dtype)[:, None]
        along = tl.load(averages + sets_in_all + sets, mask=real, other=0.0).to(high.dtype)[:, None]
    begin = chunk * steps * BLOCK_K
    for start in range(begin, tl.minimum(begin + steps * BLOCK_K, positions), BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = real[:, None] & (k < positions)[None, :]
        at = offsets(outer, c, k, inner, outer_stride, stride, block_stride, LAST, UNIT, FLAT)
        v = wide(tl.load(x + at, mask=inside, other=0.0))
        g = wide(tl.load(dy + at, mask=inside, other=0.0))
        r = None
        if residual is not None:
            r = wide(tl.load(residual + at, mask=inside, other=0.0))
        z = recovered(v, w, b, high[:, None], low[:, None], rstd[:, None], ACTIVATION, FROM_OUTPUT)
        g = upstream(g, z, w, b, r, ACTIVATION)
        if dresidual is not None:
            tl.store(dresidual + at, g, mask=inside)
        if weight is not None:
            g = g * w
        if averages is not None:
            g = g - z * along
            if CENTER:
                g = g - level
        tl.store(dx + at, g * rstd[:, None], mask=inside)
