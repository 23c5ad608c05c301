"""Layer and RMS norm of nested tensors: rows of another number in each example, and no padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor


def over_values(
    norm: Callable[[Tensor, Tensor | None], Tensor],
    input: Tensor,
    residual: Tensor | None,
    normalized_shape: Sequence[int],
    mask: Tensor | None,
) -> Tensor:
    """``norm(input, residual)`` of nested tensors: the rows of all examples are one dense tensor, ``values()``.

    Raises:
        ValueError: the layout is not ``torch.jagged``, there is a mask, the residual has other lengths, or the
            normalized dimensions reach the one of differing lengths.
    """
    if input.layout != torch.jagged:
        raise ValueError(f"nested tensors of layout {input.layout} are not served; make them with layout=torch.jagged")
    if mask is not None:
        raise ValueError("a nested tensor has no padding that a mask could hide; leave the mask out")
    if residual is not None and not (residual.is_nested and residual.shape == input.shape):
        raise ValueError("the residual must be nested as the input is, with the same offsets tensor")
    values = input.values()
    ragged = cast(int, input._ragged_idx)  # type: ignore[attr-defined]
    if len(normalized_shape) > values.ndim - ragged:
        raise ValueError(
            f"normalized_shape={list(normalized_shape)} reaches dimension {ragged} of the nested input, whose length"
            " differs between the examples; normalize the dimensions after it, or pad and use a mask"
        )
    y = norm(values, None if residual is None else residual.values())
    offsets, lengths = input.offsets(), input.lengths()  # type: ignore[attr-defined]
    return torch.nested.nested_tensor_from_jagged(y, offsets, lengths, jagged_dim=ragged)
