"""How large the tiles of a kernel are, and how many programs run: one frozen value per family, chosen by size alone.

Nothing is tuned at the first call: the same sizes give the same tiles, so the same bits, in every run.
**No figure here has been measured on a GPU yet.** The sizes of tiles follow from the registers of a multiprocessor
(65,536 of 32 bits since 2012): 32 values a thread leave room for two or three tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: The most values of a set that one program holds in registers, forward (one tile) and backward (x, dy, the parameters
#: and their gradients); half as many backward with a residual or an activation. Beyond them values spill (nvdisasm).
WHOLE_FORWARD = 2**14
WHOLE_BACKWARD = 2**13

#: Longer rows than this are shared by several programs if there are fewer of them than this.
_LONG, _FEW = 2**12, 64

_PER_THREAD = 32
_PROGRAMS = 1024  # enough to fill 132 multiprocessors several times over, and to even out the last wave


def power(n: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(0, n - 1).bit_length()


def whole_forward(sets: int, length: int) -> bool:
    """Whether one program does a set from beginning to end."""
    return length <= WHOLE_FORWARD and (length <= _LONG or sets >= _FEW)


def whole_backward(sets: int, length: int, fused: bool) -> bool:
    """Likewise, in the backward pass; ``fused`` with a residual or an activation."""
    return length <= _most(fused) and (length <= _LONG or sets >= _FEW)


def _most(fused: bool) -> int:
    return WHOLE_BACKWARD // 2 if fused else WHOLE_BACKWARD


def _warps(tile: int) -> int:
    """1 to 32, of 32 threads each."""
    return min(32, max(1, power(tile) // (32 * _PER_THREAD)))


@dataclass(frozen=True)
class Rows:
    """A program holds ``rows`` rows of up to ``block`` values; in the backward pass ``programs`` share the rows."""

    rows: int
    block: int
    programs: int
    warps: int

    @classmethod
    def forward(cls, sets: int, length: int, fused: bool) -> Rows:
        """Whole rows, several where they are short."""
        block = max(8, power(length))
        rows = min(max(1, 1024 // block), power(sets))
        tile = rows * block * (2 if fused else 1)
        return cls(rows, block, -(-sets // rows), max(4 if block >= 1024 else 1, _warps(tile)))

    @classmethod
    def backward(cls, sets: int, length: int, fused: bool) -> Rows:
        """At most 128 tiles a program, whose sums stay exact to a few units in the last place.

        Else as few programs as keep the memory busy, as each writes sums of its own: 16 warps a multiprocessor.
        """
        block = min(max(8, power(length)), _most(fused))
        rows = min(max(1, 2048 // block), power(sets))
        warps = max(4, _warps(2 * rows * block))
        tiles = -(-sets // rows)
        programs = min(tiles, max(256, 2048 // warps, -(-tiles // 128)))
        return cls(rows, block, programs, warps)


@dataclass(frozen=True)
class Channels:
    """Tiles of ``block_c`` channels by ``block_k`` positions; a program does ``steps`` of them, one of ``chunks``."""

    block_c: int
    block_k: int
    steps: int
    chunks: int
    warps: int

    @classmethod
    def of(cls, outer: int, channels: int, positions: int, last: bool) -> Channels:
        """``last``: neighbouring channels are neighbours in memory, rather than positions."""
        tile = 4096
        if last:
            block_c = min(power(channels), 64)
            block_k = min(power(positions), tile // block_c)
        else:
            block_k = min(power(positions), tile)
            block_c = min(power(channels), tile // block_k)
        tiles = -(-positions // block_k)
        others = outer * -(-channels // block_c)
        steps = min(16, max(1, tiles * others // _PROGRAMS))
        return cls(block_c, block_k, steps, -(-tiles // steps), max(4, _warps(block_c * block_k)))


@dataclass(frozen=True)
class Elements:
    """A program does ``block`` elements, eight for each block of the generator."""

    block: int
    programs: int
    warps: int

    @classmethod
    def of(cls, count: int) -> Elements:
        """For so many elements."""
        block = min(max(8, power(count)), 4096)
        return cls(block, -(-count // block), 4)


def unit(n: int) -> int:
    """The largest power of two up to 16 that divides ``n``: how many values the compiler may load as one."""
    return n & -n if n & 15 else 16


def start(kernel: Any, programs: int, x: Tensor, *arguments: Any, **options: Any) -> None:
    """Run ``programs`` programs of a kernel on the device of ``x``; while tracing, put the kernel into the graph."""
    launched: Callable[..., None]
    if type(x) not in (Tensor, torch.nn.Parameter):
        launched = torch.library.wrap_triton(kernel)[(programs,)]
    else:
        launched = kernel[(programs,)]
        if x.is_cuda and x.device.index != torch.cuda.current_device():
            with torch.cuda.device(x.device):
                launched(*arguments, **options)
            return
    launched(*arguments, **options)
