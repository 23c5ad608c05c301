"""What a converted model calls: norms and dropouts are put off until it is known what goes with them.

A norm waits for the sum and the activation behind it, a dropout for the sum and the norm behind that; ``rewriting``
says where. Everything is decided here, at the call, by what the callees are at that moment: where the callee is no
layer of ours, or somebody listens to one of the modules with a hook, each function does what was written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from levelhead import kinds
from levelhead.nn.dropout import Dropout
from levelhead.nn.extras import is_foreign
from levelhead.nn.recognition import Formula, Recognised, is_hooked
from levelhead.ops import dropouts


class Pending(NamedTuple):
    """``norm(x) + residual``, not yet calculated."""

    norm: nn.Module
    x: Tensor
    residual: Tensor | None = None

    def finished(self, **activation: str) -> Any:
        """The value, an activation included."""
        extras = activation if self.residual is None else {"residual": self.residual, **activation}
        return self.norm(self.x, **extras)


class Dropped(NamedTuple):
    """``dropout(x) + residual``, not yet calculated; its mask is drawn, so that every draw stays in its turn."""

    state: Tensor
    p: float
    x: Tensor
    residual: Tensor | None = None

    def finished(self) -> Tensor:
        """The value."""
        if self.residual is None:
            return dropouts.multiplied(self.x, self.state, self.p)
        return dropouts.summed(self.x, self.residual, self.state, self.p)


def finish(value: Any) -> Any:
    """The value itself, calculated now if it was put off."""
    return value.finished() if isinstance(value, Pending | Dropped) else value


def defer(norm: Any, x: Any) -> Any:
    """``norm(x)``, pending where something can be fused behind it."""
    if not isinstance(norm, nn.Module) or is_foreign(x) or is_hooked(norm):
        return norm(x)
    if isinstance(norm, FusedSequential):
        return norm.run(x)
    waits = fusible(norm) and getattr(norm, "memory", None) is None and norm.activation is None
    return Pending(norm, x) if waits else norm(x)  # in place, what stands behind must be invertible: as it was written


def drop(dropout: Any, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """``dropout(x)``, of a module or of ``F.dropout``, put off where it can be one with the sum behind it."""
    known, written = not is_foreign(x), [p, training, inplace]
    if isinstance(dropout, nn.Module):
        if known and isinstance(dropout, FusedSequential) and not is_hooked(dropout):
            return dropout.run(x)
        if not known or type(dropout) is not Dropout or is_hooked(dropout):
            return dropout(x)
        p, training, inplace = dropout.p, dropout.training, dropout.inplace
        if not training or not p:
            return x
        written = []
    if inplace or not (known and training and 0 < p < 1 and x.numel()) or dropouts.pytorchs(x, None):
        return dropout(x, *written)
    return Dropped(dropouts.draw(), p, x)


#: Before the name of a method whose result may be ``Dropped``.
DROPPING = "_levelhead_dropping_"


def dropping(module: nn.Module, name: str) -> Any:
    """The method of that name in the form that puts off the dropout it ends in, unless it was exchanged."""
    return getattr(module, name if name in module.__dict__ else DROPPING + name)


def through(module: Any, value: Any) -> Any:
    """``module(value)``, where that is an identity."""
    if isinstance(value, Pending) and type(module) is nn.Identity and not is_hooked(module):
        return value
    return module(finish(value))


def _joined(add: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The one of the two that is put off, with the other as its residual; the sum where that would not be the same."""
    waiting, other = (left, right) if isinstance(left, Pending | Dropped) else (right, left)
    if isinstance(waiting, Pending | Dropped) and waiting.residual is None and not is_foreign(other):
        x = waiting.x  # a sum that broadcasts, or of two types, is PyTorch's affair
        if other.shape == x.shape and other.dtype == x.dtype and other.device == x.device:
            return waiting._replace(residual=other)
    return add(finish(left), finish(right))


add = partial(_joined, operator.add)
add_in_place = partial(_joined, operator.iadd)  # a left that is put off is a value that nobody else has
torch_add = partial(_joined, torch.add)


def activate(name: str | None, function: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """``function(value, ...)``: the activation ``name``, or a module that says itself which it is."""
    if isinstance(value, Pending) and name is None:
        name = activation_of(function)
    if not isinstance(value, Pending) or name is None:
        return function(finish(value), *args, **kwargs)
    return value.finished(activation=name)


def call_method(name: str, method: str, value: Any) -> Any:
    """``value.method()``, which is the activation ``name``."""
    return value.finished(activation=name) if isinstance(value, Pending) else getattr(finish(value), method)()


def normalized(norm: Any, value: Any) -> Any:
    """``norm(value)`` of a sum that may be put off."""
    both = _sum_and_norm(norm, value)
    return norm(finish(value)) if both is None else both[0]


class Ahead:
    """A sum whose norm, which the next statement asks for, is calculated with it."""

    def __init__(self, norm: Any, value: Any) -> None:
        both = _sum_and_norm(norm, value)
        self._norm: Any = norm
        self._y: Tensor | None = None if both is None else both[0]
        self.total: Any = finish(value) if both is None else both[1]

    def normalized(self, norm: Any, x: Any) -> Any:
        """``norm(x)``, where x is the sum; it is given out once, and nothing is held after."""
        found = self._y if norm is self._norm and not is_hooked(norm) else None
        self._norm = self._y = self.total = None
        return norm(x) if found is None else found


def _sum_and_norm(norm: Any, value: Any) -> tuple[Tensor, Tensor] | None:
    """``norm(s)`` and the sum s; None where they are no matter of one step."""
    if not isinstance(value, Dropped) or value.residual is None or is_hooked(norm):
        return None
    kind, parameters = kinds.of(norm), None
    if isinstance(norm, Recognised) and isinstance(norm.seen, Formula):
        parameters = norm.seen.rows(norm, value.x) if norm.seen.dim == -1 and norm.serves(value.x) else None
    elif kind is not None and kind.axes == "row" and fusible(norm) and norm.activation is None:
        bias = getattr(norm, "bias", None)
        parameters = norm.normalized_shape, norm.weight, bias, norm.eps, kind.op == "layer_norm"
    if parameters is None:
        return None
    return dropouts.summed_and_normalized(value.x, value.residual, value.state, value.p, *parameters)


def activation_of(module: Any) -> str | None:
    """The name under which the operators know a module that is an activation; None if they do not, or it is hooked."""
    name = kinds.activation(module)
    return None if name is None or is_hooked(module) else name


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
            if isinstance(value, Pending) and type(module) is nn.Identity:
                value = through(module, value)
            elif isinstance(value, Pending) and activation_of(module) is not None:
                value = activate(None, module, value)
            else:
                value = finish(value)
                value = drop(module, value) if isinstance(module, Dropout) else defer(module, value)
        return value
