"""Dropout on the GPU: the bits of ``philox``, made where they are used.

A program makes the words of its blocks, four to a block, and lays their halves side by side: element 8 b + j of a tile
gets half j of block b, as ``philox`` defines it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from levelhead.ops import philox
from levelhead.ops.triton.elements import wide

_M0, _M1 = tl.constexpr(philox.MULTIPLIERS[0]), tl.constexpr(philox.MULTIPLIERS[1])
_W0, _W1 = tl.constexpr(philox.WEYL[0]), tl.constexpr(philox.WEYL[1])
_ROUNDS = tl.constexpr(philox.ROUNDS)


@triton.jit
def words(block, state):
    """The four words of each block, numbered in int64, under the seed and the stream that ``state`` points at."""
    seed, stream = tl.load(state), tl.load(state + 1)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    zero = (block * 0).to(tl.uint32)
    c0, c1 = block.to(tl.uint32), (block >> 32).to(tl.uint32)
    c2, c3 = zero + stream.to(tl.uint32), zero + (stream >> 32).to(tl.uint32)
    m0, m1 = zero + _M0, zero + _M1
    for _ in tl.static_range(_ROUNDS):
        high0, low0 = tl.umulhi(m0, c0), m0 * c0
        high1, low1 = tl.umulhi(m1, c2), m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + zero + _W0, k1 + zero + _W1
    return c0, c1, c2, c3


@triton.jit
def keeps(state, first, threshold, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Which elements of a tile are kept; row i of it begins with block ``first[i]`` of the generator."""
    c0, c1, c2, c3 = words(first[:, None] + tl.arange(0, BLOCK // 8)[None, :], state)
    pairs = tl.join(tl.join(c0, c2), tl.join(c1, c3))  # word 2 a + b stands at [a, b]
    halves = tl.join(pairs & 0xFFFF, pairs >> 16)
    return tl.reshape(halves, [ROWS, BLOCK]).to(tl.int32) >= threshold


@triton.jit
def noise(state, first, threshold, scale, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """The factor of each element of a tile: ``scale`` or 0."""
    return tl.where(keeps(state, first, threshold, ROWS, BLOCK), scale, 0.0)


@triton.jit
def dropout(x, residual, y, state, threshold, scale, shift, fill, count, OFFSET: tl.constexpr, BLOCK: tl.constexpr):
    """``philox.dropout`` of ``BLOCK`` elements; with OFFSET ``shift`` or ``fill`` is added."""
    program = tl.program_id(0).to(tl.int64)
    at = program * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = at < count
    first = program * (BLOCK // 8) + tl.arange(0, 1)
    keep = keeps(state, first, threshold, 1, BLOCK)
    v = wide(tl.load(x + at, mask=inside, other=0.0)) * tl.where(keep, scale, 0.0)
    if residual is not None:
        v = v + wide(tl.load(residual + at, mask=inside, other=0.0))
    elif OFFSET:
        v = v + tl.where(keep, shift, fill)
    tl.store(y + at, v, mask=inside)
