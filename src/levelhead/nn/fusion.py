"""What a converted model calls: norms and dropouts are put off until it is known what goes with them.

A norm waits for the sum and the activation behind it, a dropout for the sum and the norm behind that.
``rewriting`` turns ``relu(self.bn(x) + r)`` into ``activate("relu", relu, add(defer(self.bn, x), r))``. ``residuals``
turns ``self.norm(r + self.dropout(x))`` into ``normalized(self.norm, "add", r, drop(self.dropout, x))``. Everything is
decided here, at the call, by what the callees are at that moment: where the callee of ``defer`` is no normalization of
ours, or somebody listens to one of the modules with a hook, each function does what was written.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from levelhead import kinds
from levelhead.nn.dropout import Dropout
from levelhead.ops import dropouts


class Pending(NamedTuple):
    """``norm(x) + residual``, not yet calculated."""

    norm: nn.Module
    x: Tensor
    residual: Tensor | None = None


class Dropped(NamedTuple):
    """``dropout(x)``, not yet calculated; its mask is drawn, so that every draw stays in its turn."""

    x: Tensor
    state: Tensor
    p: float


def defer(norm: Any, x: Any) -> Any:
    """``norm(x)``, pending where something can be fused behind it."""
    if not isinstance(norm, nn.Module) or not isinstance(x, Tensor) or hooked(norm):
        return norm(x)
    if isinstance(norm, FusedSequential):
        return norm.run(x)
    waits = fusible(norm) and getattr(norm, "memory", None) is None and norm.activation is None
    return Pending(norm, x) if waits else norm(x)  # in place, what stands behind must be invertible: as it was written


def add(left: Any, right: Any) -> Any:
    """``left + right``, where at most one of them is pending."""
    joined = _join(left, right)
    return finish(left) + finish(right) if joined is None else joined


def add_in_place(left: Any, right: Any) -> Any:
    """``left += right``: a pending left is a value that nobody else has."""
    joined = _join(left, right)
    if joined is not None:
        return joined
    left = finish(left)
    left += finish(right)
    return left


def torch_add(left: Any, right: Any) -> Any:
    """``torch.add(left, right)``."""
    joined = _join(left, right)
    return torch.add(finish(left), finish(right)) if joined is None else joined


def activate(name: str | None, function: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """``function(value, ...)``: the activation ``name``, or a module that says itself which it is."""
    if not isinstance(value, Pending):
        return function(value, *args, **kwargs)
    if name is None:
        name = activation_of(function)
    if name is None:
        return function(finish(value), *args, **kwargs)
    return value.norm(value.x, residual=value.residual, activation=name)


def call_method(name: str, method: str, value: Any) -> Any:
    """``value.method()``, which is the activation ``name``."""
    if isinstance(value, Pending):
        return value.norm(value.x, residual=value.residual, activation=name)
    return getattr(value, method)()


def drop(dropout: Any, x: Any) -> Any:
    """``dropout(x)``, put off where it can be one with the sum behind it."""
    if not isinstance(dropout, nn.Module) or not isinstance(x, Tensor) or hooked(dropout):
        return dropout(x)
    if isinstance(dropout, FusedSequential):
        return dropout.run(x)
    if type(dropout) is not Dropout or dropout.inplace or not dropout.training or not 0 < dropout.p < 1:
        return dropout(x)
    if not x.numel() or dropouts.pytorchs(x, None):
        return dropout(x)
    return Dropped(x, dropouts.draw(), dropout.p)


def dropping(module: nn.Module, name: str) -> Any:
    """The method of that name in the form that puts off the dropout it ends in, unless it was exchanged."""
    return getattr(module, name if name in module.__dict__ else DROPPING + name)


#: Before the name of a method whose result may be ``Dropped``.
DROPPING = "_levelhead_dropping_"


def total(how: str, left: Any, right: Any) -> Any:
    """The sum of the two, of which one may be ``Dropped``."""
    pair = _dropped_and_other(left, right)
    return (
        _SUMS[how](finish(left), finish(right)) if pair is None else dropouts.summed(pair[0].x, pair[1], *pair[0][1:])
    )


def normalized(norm: Any, how: str, left: Any, right: Any) -> Any:
    """``norm(left + right)``."""
    both = _sum_and_norm(norm, left, right)
    return norm(total(how, left, right)) if both is None else both[0]


class Ahead:
    """A sum whose norm, which the next statement asks for, is calculated with it."""

    def __init__(self, norm: Any, how: str, left: Any, right: Any) -> None:
        both = _sum_and_norm(norm, left, right)
        self._norm: Any = norm
        self._y: Tensor | None = None if both is None else both[0]
        self.total: Any = total(how, left, right) if both is None else both[1]

    def normalized(self, norm: Any, x: Any) -> Any:
        """``norm(x)``, where x is the sum; it is given out once, and nothing is held after."""
        found = self._y if norm is self._norm and not hooked(norm) else None
        self._norm = self._y = self.total = None
        return norm(x) if found is None else found


_SUMS: dict[str, Any] = {"add": operator.add, "torch_add": torch.add}


def _dropped_and_other(left: Any, right: Any) -> tuple[Dropped, Tensor] | None:
    """The one that is ``Dropped``, and the other; None where that would not be the same sum."""
    dropped, other = (left, right) if isinstance(left, Dropped) else (right, left)
    if not isinstance(dropped, Dropped) or not isinstance(other, Tensor):
        return None
    x = dropped.x
    same = other.shape == x.shape and other.dtype == x.dtype and other.device == x.device
    return (dropped, other) if same else None


def _sum_and_norm(norm: Any, left: Any, right: Any) -> tuple[Tensor, Tensor] | None:
    """``norm(s)`` and the sum s; None where they are no matter of one step."""
    pair = _dropped_and_other(left, right)
    kind = kinds.of(norm)
    center = None if kind is None else {"layer_norm": True, "rms_norm": False}.get(kind.op)
    if pair is None or center is None or not fusible(norm) or hooked(norm) or norm.activation is not None:
        return None
    (x, state, p), other = pair
    parameters = (norm.normalized_shape, norm.weight, getattr(norm, "bias", None), norm.eps)
    y, s = dropouts.summed_and_normalized(x, other, state, p, *parameters, center=center)
    return y, s


def finish(value: Any) -> Any:
    """The value itself, calculated now if it was put off."""
    if isinstance(value, Dropped):
        return dropouts.multiplied(*value)
    if not isinstance(value, Pending):
        return value
    return value.norm(value.x) if value.residual is None else value.norm(value.x, residual=value.residual)


def _join(left: Any, right: Any) -> Pending | None:
    """The pending one of the two with the other as its residual; None where that would not be the same sum."""
    pending, other = (left, right) if isinstance(left, Pending) else (right, left)
    if not isinstance(pending, Pending) or pending.residual is not None or not isinstance(other, Tensor):
        return None
    x = pending.x  # a sum that broadcasts, or of two types, is PyTorch's affair
    same = other.shape == x.shape and other.dtype == x.dtype and other.device == x.device
    return pending._replace(residual=other) if same else None


def hooked(module: nn.Module) -> bool:
    """Whether somebody listens to the module's calls, or has put another forward in its place."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
        or _has_any_global_hook()
    )


def activation_of(module: Any) -> str | None:
    """The name under which the operators know a module that is an activation; None if they do not, or it is hooked."""
    name = kinds.activation(module)
    return None if name is None or hooked(module) else name


def fusible(module: Any) -> bool:
    """Whether a module is a norm of ours, which takes a residual and an activation."""
    return isinstance(module, kinds.Norm) and kinds.is_ours(module)


class FusedSequential(nn.Sequential):
    """A mixin for ``nn.Sequential``: a normalization and the activation that follows it are one call.

    The entries stay as they are; which of them go together is seen at each call, so that they can be exchanged, hooked
    and sliced as before.
    """

    def forward(self, input: Any) -> Any:
        """The entries one after the other."""
        return finish(self.run(input))

    def run(self, value: Any) -> Any:
        """As ``forward``, but put off where the last entry is a normalization or a dropout."""
        for module in self:
            if isinstance(value, Pending):
                name = activation_of(module)
                if name is not None:
                    value = value.norm(value.x, activation=name)
                    continue
            value = finish(value)
            value = drop(module, value) if isinstance(module, Dropout) else defer(module, value)
        return value
