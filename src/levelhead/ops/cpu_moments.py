"""The compiled moments: how a tensor and the dimensions to reduce lie in memory, and the call."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from levelhead import moments
from levelhead.ops import cpu, library, spec

#: Fewer values than this a thread are not worth its start.
_WORK = 2**15
#: Channels that are apart in memory row by row (a slice of columns) should be at least so many, to fill vectors.
_WIDE = 8


class Plan(NamedTuple):
    """The sizes and strides of ``csrc/statistics.h``."""

    columns: bool
    n: int
    c: int
    l: int  # noqa: E741  (the length, as there)
    example: int
    channel: int


@functools.lru_cache(maxsize=4096)
def plan(shape: tuple[int, ...], stride: tuple[int, ...], dims: tuple[int, ...]) -> Plan | None:
    """The form of a tensor that is reduced over ``dims``, none negative; None if the kernel knows no such form.

    The kernel takes (reduced, kept, reduced), with the last one dense, and (reduced, kept), with the kept one dense;
    each of the outer ones may be absent.
    """
    kinds = tuple(d in dims for d in range(len(shape)))
    # Those that stay, in their order: else the result would have its dimensions in another.
    found = spec.runs(shape, stride, kinds, ordered=(False,))
    if not found or found[-1].stride != 1:
        return None
    order = [run.kind for run in found]
    if order == [True, False]:
        (_, n, example), (_, c, _) = found
        dense = example == c
        return Plan(True, n, c, 1, example, 1) if dense or (example > c >= _WIDE) else None
    if order in ([True], [False, True], [True, False, True], [True, True]):
        _, length, _ = found[-1]
        (n, example), (c, channel) = (
            next(((size, step) for reduced, size, step in found[:-1] if reduced == wanted), (1, 0))
            for wanted in (True, False)
        )
        return Plan(False, n, c, length, example, channel)
    return None


def fast(x: Tensor, dims: tuple[int, ...], ignore_nan: bool) -> tuple[Tensor, Tensor, Tensor] | None:
    """Count (float64), mean and M2 of the shape of ``x`` without ``dims``; None where the kernel cannot serve."""
    if (
        not cpu.serves(x)
        or not library.eager(x)
        or x.layout != torch.strided
        or library.differentiated(x)
        or library.FORCED == "reference"
    ):
        return None
    found = plan(x.shape, x.stride(), dims)
    if found is None or not x.numel():
        return None
    kept = (size for d, size in enumerate(x.shape) if d not in dims)
    result = torch.empty(3, *kept, dtype=torch.float64, device="cpu")
    threads = min(torch.get_num_threads(), 1 + x.numel() // _WORK)
    columns, *sizes = found
    cpu._module.statistics(cpu._TYPES[x.dtype], columns, ignore_nan, *sizes, threads, x, result)
    count, mean, m2 = result.unbind()
    return count, mean, m2


moments.accelerate(fast)
