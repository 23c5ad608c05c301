"""What a converted model calls: a normalization is put off until its sum and its activation are known.

``rewriting`` turns ``relu(self.bn(x) + r)`` into ``activate("relu", relu, add(defer(self.bn, x), r))``. Everything is
decided here, at the call, by what the callees are at that moment: where the callee of ``defer`` is no normalization of
ours, or somebody listens to one of the modules with a hook, each function does what was written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from levelhead.nn.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from levelhead.nn.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from levelhead.nn.rows import GroupNorm, LayerNorm, RMSNorm
from levelhead.nn.sync import SyncBatchNorm

#: Exact types, for a subclass may calculate something else.
FUSIBLE: frozenset[type[nn.Module]] = frozenset(
    {
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        GroupNorm,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        LayerNorm,
        RMSNorm,
        SyncBatchNorm,
    }
)


class Pending(NamedTuple):
    """``norm(x) + residual``, not yet calculated."""

    norm: nn.Module
    x: Tensor
    residual: Tensor | None = None


def defer(norm: Any, x: Any) -> Any:
    """``norm(x)``, pending where something can be fused behind it."""
    if not isinstance(norm, nn.Module) or not isinstance(x, Tensor) or hooked(norm):
        return norm(x)
    if isinstance(norm, FusedSequential):
        return norm.run(x)
    return Pending(norm, x) if type(norm) in FUSIBLE and norm.activation is None else norm(x)


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


def finish(value: Any) -> Any:
    """The value itself, calculated now if it is pending."""
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
    kind = type(module)
    if kind not in ACTIVATION_MODULES or hooked(module):
        return None
    if (kind is nn.LeakyReLU and module.negative_slope != 0.01) or (kind is nn.ELU and module.alpha != 1.0):
        return None
    if kind is nn.GELU and module.approximate != "none":
        return "gelu_tanh" if module.approximate == "tanh" else None
    return ACTIVATION_MODULES[kind]


ACTIVATION_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


class FusedSequential(nn.Sequential):
    """A mixin for ``nn.Sequential``: a normalization and the activation that follows it are one call.

    The entries stay as they are; which of them go together is seen at each call, so that they can be exchanged, hooked
    and sliced as before.
    """

    def forward(self, input: Any) -> Any:
        """The entries one after the other."""
        return finish(self.run(input))

    def run(self, value: Any) -> Any:
        """As ``forward``, but pending where the last entry is a normalization."""
        for module in self:
            if isinstance(value, Pending):
                name = activation_of(module)
                if name is not None:
                    value = value.norm(value.x, activation=name)
                    continue
                value = finish(value)
            value = defer(module, value)
        return value
