r"""Dropout's random bits in plain PyTorch: the definition that every kernel reproduces bit for bit.

A block is what Philox4x32 with 7 rounds makes of its number; it holds 128 bits and serves 8 elements with 16 bits each.
With 64-bit numbers ``b`` (block), ``stream`` and ``seed`` cut into words of 32 bits, the low word first,

.. math::
    (c_0, c_1, c_2, c_3) = (b, \mathrm{stream}), \qquad (k_0, k_1) = \mathrm{seed}

and each round maps (c0, c1, c2, c3) to (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)), after which
the key moves on. Half ``j`` of a block, j = 0..7, are bits 16 (j mod 2) and up of word j // 2, and belongs to element
8 b + j.

Seven rounds are the fewest that pass BigCrush, the hardest battery of statistical tests there is; more are slower and
no better by any test known. Nothing here is fit for cryptography.

Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", sections 3.3 and 4, table 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS = 7
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85

#: How many values a half takes: rates are multiples of one part in so many.
LEVELS = 2**16

_WORD = 0xFFFFFFFF
_BLOCKS_AT_ONCE = 2**15  # 256 KB a word: the arithmetic stays in the cache


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, ...], rounds: int = ROUNDS) -> tuple[Tensor, ...]:
    """Philox4x32: four words of random bits for each counter of four words under a key of two.

    Args:
        counter: four int64 tensors of words of 32 bits, which broadcast.
        key: two of them.
        rounds: how many rounds.

    Returns:
        Four int64 tensors of words of 32 bits.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2  # modulo 2^64: the shift below cuts the sign off
        c0, c1, c2, c3 = ((p1 >> 32) & _WORD) ^ c1 ^ k0, p1 & _WORD, ((p0 >> 32) & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + WEYL[0]) & _WORD, (k1 + WEYL[1]) & _WORD
    return c0, c1, c2, c3


def halves(state: Tensor, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The random values of elements 0 to ``count - 1``, from 0 to 65535.

    Args:
        state: the seed and the stream, int64 of shape (2,).
        count: how many.
        device: where.

    Returns:
        int32 of shape (count,).
    """
    state = state.to(device)
    seed, stream = state[0], state[1]
    key, upper = (seed & _WORD, (seed >> 32) & _WORD), (stream & _WORD, (stream >> 32) & _WORD)
    pieces = []
    for start in range(0, (count + 7) // 8, _BLOCKS_AT_ONCE):
        end = min(start + _BLOCKS_AT_ONCE, (count + 7) // 8)
        block = torch.arange(start, end, dtype=torch.int64, device=device)
        words = torch.stack(philox((block & _WORD, block >> 32, *upper), key), -1)
        pieces.append(torch.stack((words & 0xFFFF, words >> 16), -1).to(torch.int32).flatten())
    return torch.cat(pieces)[:count] if pieces else torch.empty(0, dtype=torch.int32, device=device)


class Noise(NamedTuple):
    """What a call of dropout multiplies by and adds; its mask is made anew from two numbers wherever it is needed.

    Args:
        state: the seed and the stream, int64 of shape (2,).
        threshold: an element is kept whose half is at least this, so that it is dropped at ``threshold / LEVELS``.
        scale: the factor of what is kept; that of what is dropped is 0.
        shift: added to what is kept, where there is no residual.
        fill: added to what is dropped, where there is no residual.
    """

    state: Tensor
    threshold: int
    scale: float
    shift: float = 0.0
    fill: float = 0.0


def factors(noise: Noise, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which elements are kept, and the factor of each: ``scale`` or 0, in float64 for float64 and else in float32."""
    keep = halves(noise.state, like.numel(), like.device).view(like.shape) >= noise.threshold
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32
    return keep, keep.to(wide) * noise.scale


def dropout(x: Tensor, residual: Tensor | None, noise: Noise) -> Tensor:
    """``x * factor + offset``, rounded once to the type of ``x``; the offset is ``residual`` where there is one.

    Args:
        x: floating point; element i in row-major order has half i.
        residual: of the shape of ``x``, or None.
        noise: the mask and what it does.

    Returns:
        A contiguous tensor of the shape and type of ``x``.
    """
    keep, factor = factors(noise, x)
    y = x.to(factor.dtype) * factor
    if residual is not None:
        y = y + residual.to(factor.dtype)
    elif noise.shift or noise.fill:
        y = y + torch.where(keep, factor.new_tensor(noise.shift), factor.new_tensor(noise.fill))
    return y.to(x.dtype).contiguous()
