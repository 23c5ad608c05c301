"""Kernels of the tests of the GPU kernels, in a file of their own as Triton reads their source."""

from __future__ import annotations

import triton
import triton.language as tl

from levelhead.ops.triton.random import words


@triton.jit
def words_of(state, block, result):
    """The four words of one block."""
    c0, c1, c2, c3 = words(tl.zeros([1], tl.int64) + block, state)
    at = result + tl.arange(0, 1)
    tl.store(at, c0.to(tl.int64))
    tl.store(at + 1, c1.to(tl.int64))
    tl.store(at + 2, c2.to(tl.int64))
    tl.store(at + 3, c3.to(tl.int64))
