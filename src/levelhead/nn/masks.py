"""From the lengths of sequences to a mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def resolve(x: Tensor, mask: Tensor | None, lengths: Tensor | Sequence[int] | None, axis: int) -> Tensor | None:
    """The mask, or that of sequences along ``axis``: True at the first ``lengths[i]`` positions of example i.

    Args:
        x: the batch first.
        mask: passed on; what it must be is checked where it is used.
        lengths: (N,), integers from 0 to the size of ``axis``.
        axis: where the positions are.

    Raises:
        TypeError: the lengths are not integers.
        ValueError: both are given, ``x`` has no such axis, or the lengths are not (N,) or out of range.
    """
    if lengths is None:
        return mask
    if mask is not None:
        raise ValueError("mask and lengths both say what counts: give one of them")
    if x.is_nested:
        raise ValueError("a nested tensor knows its lengths; leave them out")
    if x.ndim < 3:
        raise ValueError(f"lengths are of sequences, and the input {tuple(x.shape)} has no axis for them; give a mask")
    counts = torch.as_tensor(lengths, device=x.device)
    if counts.dtype.is_floating_point or counts.dtype.is_complex or counts.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, one an example, got {counts.dtype}")
    size = x.shape[axis]
    if counts.shape != x.shape[:1]:
        raise ValueError(
            f"lengths must have the shape ({x.shape[0]},), one an example of the input {tuple(x.shape)}, got"
            f" {tuple(counts.shape)}"
        )
    if not torch.compiler.is_compiling() and counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= size:
        raise ValueError(
            f"lengths must lie from 0 to {size}, the size of axis {axis % x.ndim} of the input, got"
            f" {int(counts.min())} to {int(counts.max())}"
        )
    shape = [1] * x.ndim
    shape[0], shape[axis] = x.shape[0], size
    return (torch.arange(size, device=x.device) < counts[:, None]).view(shape)
