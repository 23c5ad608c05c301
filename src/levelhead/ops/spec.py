"""One normalization as one value, and how a tensor lies in memory.

A ``Norm`` says everything but the tensors; every backend, the reference, autograd and torch.library take it whole.
The public functions get theirs from ``over_channels`` and ``over_last``, which check the arguments.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from levelhead.ops.reference import ACTIVATIONS

#: A tensor's shape and type, all that a check needs to know of it.
Form = tuple[tuple[int, ...], torch.dtype]


class Norm(NamedTuple):
    """A normalization: which values share statistics, and what is done with them.

    ``over``:

    - "batch": the values of a channel (dimension 1) in all examples; statistics of shape (C,);
    - "given": as "batch", with statistics that are given, and constants to the gradient;
    - "group": those of one of ``number`` groups of channels of one example; (N, number);
    - "row": the last ``number`` dimensions; of the shape of the others.

    Parameters are of shape (C,), or of the shape of the last ``number`` dimensions for "row". With ``masked`` only
    the values count where a mask is True, and each set's count is a third statistic.
    """

    over: Literal["batch", "given", "group", "row"]
    number: int
    eps: float
    activation: str = ""
    center: bool = True
    masked: bool = False

    def shape(self, x: Sequence[int]) -> tuple[int, ...]:
        """Of the mean and the variance of a tensor of the shape ``x``."""
        if self.over == "row":
            return (*x[: len(x) - self.number],)
        return (x[0], self.number) if self.over == "group" else (x[1],)

    def split(self, x: Tensor) -> Tensor:
        """``x`` with the channels of a group in a dimension of their own, so that statistics are over whole ones."""
        if self.over != "group":
            return x
        return x.reshape(x.shape[0], self.number, x.shape[1] // self.number, *x.shape[2:])

    def dims(self, ndim: int) -> tuple[int, ...]:
        """The dimensions of ``split(x)`` that share statistics, for ``x`` of ``ndim`` dimensions."""
        if self.over == "row":
            return tuple(range(ndim - self.number, ndim))
        return tuple(range(2, ndim + 1)) if self.over == "group" else (0, *range(2, ndim))

    def parameter(self, p: Tensor, x: Tensor) -> Tensor:
        """A parameter in a shape that broadcasts against ``split(x)``."""
        if self.over == "row":
            return p
        groups = (self.number, x.shape[1] // self.number) if self.over == "group" else (x.shape[1],)
        return p.view(*groups, *[1] * (x.ndim - 2))

    def statistic(self, s: Tensor, x: Tensor) -> Tensor:
        """A mean or a variance in a shape that broadcasts against ``split(x)``."""
        if self.over == "row":
            return s.view(*s.shape, *[1] * self.number)
        if self.over == "group":
            return s.view(*s.shape, *[1] * (x.ndim - 1))
        return s.view(1, x.shape[1], *[1] * (x.ndim - 2))


def over_channels(
    x: Form,
    over: Literal["batch", "given", "group"],
    number: int,
    eps: float,
    activation: str | None,
    weight: Form | None,
    bias: Form | None,
    running_mean: Form | None = None,
    running_var: Form | None = None,
) -> Norm:
    """The norm of batch, instance and group norm; ``number`` as in ``Norm``.

    Raises:
        IndexError: ``x`` has no dimension 1.
        NotImplementedError: ``x`` is not floating point.
        RuntimeError: a parameter is not of shape (C,), or of another type than ``x``.
        ValueError: an unknown activation.
    """
    (shape, dtype), act = x, check_activation(activation)
    channels = shape[1]
    _check_floating(dtype)
    parameters = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, form in parameters.items():
        if form is None:
            continue
        if form[0] != (channels,):
            raise RuntimeError(
                f"{name} should contain {channels} elements, one a channel of the input {tuple(shape)}, not"
                f" {tuple(form[0])}"
            )
        _check_type(dtype, name, form[1])
    return Norm(over, number, eps, act)


def over_last(
    x: Form,
    normalized_shape: tuple[int, ...],
    eps: float | None,
    activation: str | None,
    center: bool,
    weight: Form | None,
    bias: Form | None,
) -> Norm:
    """The norm of layer norm and, without ``center``, of RMS norm.

    Raises:
        RuntimeError: ``x`` does not end in ``normalized_shape``, or a parameter is not of it, or of another type.
        NotImplementedError: ``x`` is not floating point.
        ValueError: an unknown activation.
    """
    (shape, dtype), act = x, check_activation(activation)
    count = len(normalized_shape)
    if not count:
        raise RuntimeError("Expected normalized_shape to have at least one dimension, but got []")
    if shape[-count:] != normalized_shape:
        raise RuntimeError(
            f"Given normalized_shape={list(normalized_shape)}, expected input with shape"
            f" [*, {', '.join(map(str, normalized_shape))}], but got input of size {list(shape)}"
        )
    _check_floating(dtype)
    for name, form in (("weight", weight), ("bias", bias)):
        if form is None:
            continue
        if form[0] != normalized_shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape"
                f" {list(form[0])} and normalized_shape = {list(normalized_shape)}"
            )
        if center:  # PyTorch's RMS norm takes any pair of types
            _check_type(dtype, name, form[1])
    if eps is None:
        eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    return Norm("row", count, eps, act, center)


def check_activation(name: str | None) -> str:
    """The name under which the operators know an activation: "" for None.

    Raises:
        ValueError: there is no activation of that name.
    """
    if name is None:
        return ""
    if name == "" or name not in ACTIVATIONS:
        known = ", ".join(filter(None, ACTIVATIONS))
        raise ValueError(f"unknown activation {name!r}; choose one of {known}, or None")
    return name


def form(t: Tensor) -> Form:
    """What a check needs to know of a tensor."""
    return t.shape, t.dtype


def maybe_form(t: Tensor | None) -> Form | None:
    """Likewise, of one that may be absent."""
    return None if t is None else (t.shape, t.dtype)


def _check_floating(dtype: torch.dtype) -> None:
    if not dtype.is_floating_point:
        raise NotImplementedError(f"normalization is of floating point tensors, got {dtype}; try input.float()")


def _check_type(dtype: torch.dtype, name: str, own: torch.dtype) -> None:
    if own != dtype and not (own == torch.float32 and dtype.itemsize == 2):
        raise RuntimeError(f"mixed dtype: the input is {dtype} and {name} is {own}; convert one with .to(dtype)")


class Run(NamedTuple):
    """Neighbours in memory of one kind: which, how many values, and how far apart."""

    kind: Any
    size: int
    stride: int


def runs(shape: Sequence[int], stride: Sequence[int], kinds: Sequence[Any], ordered: Sequence[Any]) -> list[Run] | None:
    """The axes from the outermost in memory to the innermost, neighbours of one kind as one; size 1 is left out.

    None if the axes of one of the kinds in ``ordered`` come in another order than in the tensor.
    """
    axes = sorted((d for d in range(len(shape)) if shape[d] > 1), key=lambda d: -stride[d])
    if any(of != sorted(of) for of in ([d for d in axes if kinds[d] == kind] for kind in ordered)):
        return None
    found: list[Run] = []
    for d in axes:
        if found and found[-1].kind == kinds[d] and found[-1].stride == shape[d] * stride[d]:
            found[-1] = Run(kinds[d], found[-1].size * shape[d], stride[d])
        else:
            found.append(Run(kinds[d], shape[d], stride[d]))
    return found


PLANES, COLUMNS, ROWS = range(3)


class Layout(NamedTuple):
    """How a tensor lies in memory, in the terms of ``csrc/kernels.h`` and ``triton/norms.py``."""

    layout: int
    across: bool
    n: int
    c: int
    l: int  # noqa: E741  (the length, as there)
    groups: int


@functools.lru_cache(maxsize=4096)
def layout(norm: Norm, shape: tuple[int, ...], stride: tuple[int, ...]) -> Layout | None:
    """The form of a tensor that is normalized; None if it is none that the kernels know."""
    ndim = len(shape)
    if norm.over == "row":
        if not dense(shape, stride):
            return None
        return Layout(ROWS, False, math.prod(shape[: ndim - norm.number]), 1, math.prod(shape[ndim - norm.number :]), 1)
    found = runs(shape, stride, ("example", "channel", *["position"] * (ndim - 2)), ())
    if found is None or any(run.stride != math.prod(r.size for r in found[k + 1 :]) for k, run in enumerate(found)):
        return None
    n, c, positions = shape[0], shape[1], math.prod(shape[2:])
    order = [run.kind for run in found]
    across = norm.over != "group"
    groups = 1 if across else norm.number
    if across and c == 1:
        return Layout(PLANES, True, 1, 1, n * positions, 1)
    if across and order == sorted(order, key=("channel", "example", "position").index) and n > 1:
        return Layout(PLANES, True, 1, c, n * positions, 1)
    if norm.masked:  # the kernels know masks in planes and rows; planes of one value are slow
        planes = dense(shape, stride) and (positions > 1 or not across)
        return Layout(PLANES, across, n, c, positions, groups) if planes else None
    if order in ([], ["example"], ["channel"], ["example", "channel"]) and c > 1 and positions == 1:
        return Layout(COLUMNS, across, 1 if across else n, c, n if across else 1, groups)
    if order == sorted(order, key=("example", "channel", "position").index):
        return Layout(PLANES, across, n, c, positions, groups)
    if order == sorted(order, key=("example", "position", "channel").index):
        return Layout(COLUMNS, across, 1 if across else n, c, n * positions if across else positions, groups)
    return None


def dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether the axes fill memory in their order without a gap."""
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1:
            if step != expected:
                return False
            expected *= size
    return True


def like(t: Tensor, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``t`` with the strides of ``x``, and its type or another."""
    dtype = dtype or x.dtype
    return t if t.stride() == x.stride() and t.dtype == dtype else torch.empty_like(x, dtype=dtype).copy_(t)


def laid(x: Tensor, norm: Norm) -> tuple[Tensor, Layout | None]:
    """``x``, copied if it must be, in a form of the kernels, and which; None where there is none."""
    found = layout(norm, x.shape, x.stride())
    if found is None:
        x = arranged(x, norm)
        found = layout(norm, x.shape, x.stride())
    return x, found


def arranged(x: Tensor, norm: Norm) -> Tensor:
    """A copy of ``x`` that lies in memory in a form of the kernels."""
    if norm.masked and norm.over == "batch":
        return x.movedim(1, 0).contiguous().movedim(0, 1)
    return x.contiguous()


def result(x: Tensor, norm: Norm) -> Tensor:
    """An empty tensor that lies as a norm's result does: rows contiguous, as of PyTorch's layer norm, else as ``x``."""
    return torch.empty_like(x, memory_format=torch.contiguous_format if norm.over == "row" else torch.preserve_format)


def back(y: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """``y``, which may have been made for a copy of ``x``, as ``result(x, norm)`` lies."""
    if norm.over == "row":
        return y.contiguous()
    return y if y.stride() == x.stride() else like(y, torch.empty_like(x))
