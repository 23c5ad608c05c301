"""What a layer is: one row for every kind that is a norm, a dropout, an activation, or linear in its input.

Whatever asks "is this a norm?" (conversion, fusion, folding, initialization, regularizers, networks, the doctor) reads
it here. ``isinstance(module, Norm)`` asks what a layer is meant for, and holds for subclasses; ``of(module)`` asks what
it calculates, and a class is what its ``forward`` is.
"""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Family(ABCMeta):
    """What a layer is meant for: classes are entered by ``register``."""


class Norm(nn.Module, metaclass=Family):
    """Every normalization layer that is registered."""

    reset_parameters: Callable[[], None]


class Dropout(nn.Module, metaclass=Family):
    """Every dropout layer that is registered."""

    p: float


class Activation(nn.Module, metaclass=Family):
    """Every activation that the norms can apply themselves."""


class Affine(nn.Module, metaclass=Family):
    """Every layer that is linear in its input, plus a bias: what a norm can be folded into."""


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Args:
        base: PyTorch's class, whose ``forward`` says what is calculated.
        family: Norm, Dropout, Activation or Affine.
        op: the operator in ``levelhead.ops``, or the name of an activation there.
        ours: the class that takes its place.
        axes: what a norm takes statistics over: the "batch", an "instance", a "group" of channels, or a "row".
        tracks: whether it may keep running estimates.
        roles: what each parameter is: a "scale", a "shift", a "weight" or a "bias".
        constants: the attributes that must have these values for ``op`` to be what it does.
        functions: what does the same as a function.
    """

    base: type[nn.Module]
    family: Family
    op: str
    ours: type[nn.Module] | None = None
    axes: str = ""
    tracks: bool = False
    roles: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    functions: tuple[Callable[..., Any], ...] = ()

    def computes(self, cls: Any) -> bool:
        """Whether a class calculates what this kind does.

        It has its ``forward``, what only that calls (``_conv_forward``), and its parameters as they are.
        """
        made = any(isinstance(getattr(cls, name, None), property) for name in self.roles)  # as parametrizations do
        if made or cls.__call__ is not nn.Module.__call__:
            return False
        ours = set() if self.ours is None else _named(self.ours)
        called = _named(self.base) - ours
        same = all(getattr(cls, name, None) is getattr(self.base, name, None) for name in {"forward", *called})
        return same or (self.ours is not None and cls.forward is self.ours.forward)


def _named(cls: type[nn.Module]) -> set[str]:
    """What the ``forward`` of a class names, and the methods that it calls."""
    found: set[str] = set()
    left = {"forward"}
    while left:
        code = getattr(inspect.unwrap(getattr(cls, left.pop(), None)), "__code__", None)  # type: ignore[arg-type]
        new = set(code.co_names) - found if code else set()
        found, left = found | new, left | new
    return found


_ROWS: dict[type[nn.Module], Kind] = {}
_KNOWN: dict[type, Kind | None] = {}  # what ``of`` has found, by class
_SCALE = {"weight": "scale", "bias": "shift"}
_WEIGHT = {"weight": "weight", "bias": "bias"}


def register(kind: Kind) -> None:
    """Add a kind, or exchange the row of its class."""
    kind.family.register(kind.base)
    _ROWS[kind.base] = kind
    if kind.ours is not None:
        kind.family.register(kind.ours)
        _ROWS[kind.ours] = kind
    _KNOWN.clear()


def unregister(kind: Kind) -> None:
    """Take a kind out again; ``isinstance`` goes on to hold for its classes."""
    for cls in (kind.base, kind.ours):
        _ROWS.pop(cls, None)  # type: ignore[arg-type]
    _KNOWN.clear()


def takes_the_place(*classes: type[nn.Module]) -> None:
    """Enter classes of ours as those that take the place of the registered classes of the same names."""
    bases = {cls.__name__: kind for cls, kind in _ROWS.items() if cls is kind.base}
    for ours in classes:
        register(replace(bases[ours.__name__], ours=ours))
        ours._get_name = _shown  # type: ignore[method-assign]  # what a model prints


def _shown(module: nn.Module) -> str:
    cls = type(module)
    return f"lh.{cls.__name__}" if cls.__module__.startswith("levelhead.") else cls.__name__


def every(family: Family) -> Iterator[Kind]:
    """The rows of a family."""
    return (kind for cls, kind in list(_ROWS.items()) if kind.family is family and cls is kind.base)


def classes(op: str) -> tuple[type[nn.Module], ...]:
    """PyTorch's classes that one operator serves."""
    return tuple(cls for cls, kind in _ROWS.items() if kind.op == op and cls is kind.base)


def intended(module: object) -> Kind | None:
    """What a module is meant for: the row of the nearest of its bases that has one."""
    return next((_ROWS[base] for base in type(module).__mro__ if base in _ROWS), None)


def of(module: object) -> Kind | None:
    """What a module calculates; None where that is not known, or where its ``forward`` was exchanged on the object."""
    cls = type(module)
    if cls not in _KNOWN:  # no lru_cache: the compiler traces into those, and says so
        kind = intended(module)
        _KNOWN[cls] = kind if kind is not None and kind.computes(cls) else None
    return None if "forward" in getattr(module, "__dict__", ()) else _KNOWN[cls]


def axes(module: object) -> str:
    """What a norm takes its statistics over; "" of anything else."""
    kind = of(module)
    return "" if kind is None else kind.axes


def is_ours(module: object) -> bool:
    """Whether a module runs the code that takes the place of PyTorch's."""
    kind = of(module)
    return kind is not None and kind.ours is not None and type(module).forward is kind.ours.forward  # type: ignore[attr-defined]


def activation(module: object) -> str | None:
    """The name under which the norms know a module that is an activation; None if they do not."""
    kind = of(module)
    if kind is None or kind.family is not Activation:
        return None
    if kind.base is nn.GELU:
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(str(module.approximate))  # type: ignore[attr-defined]
    return kind.op if all(getattr(module, name) == value for name, value in kind.constants.items()) else None


def activation_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """The name of a function that is an activation, called with these arguments behind its input."""
    kind = next((kind for kind in every(Activation) if function in kind.functions), None)
    if kind is None:
        return None
    try:
        given = dict(list(inspect.signature(function).bind(None, *args, **kwargs).arguments.items())[1:])
    except ValueError:  # a function of torch itself shows no signature; what stands behind its input has names
        given = {"": args} if args else dict(kwargs)
    except TypeError:
        return None
    given.pop("inplace", None)
    if kind.base is nn.GELU:
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(str(given.get("approximate", "none")))
    return kind.op if all(name in kind.constants and kind.constants[name] == v for name, v in given.items()) else None


def activation_method(name: str) -> str | None:
    """The name of an activation that is a method of a tensor, ``x.relu()``, called without arguments."""
    function = getattr(torch, name, None) if hasattr(torch.Tensor, name) else None
    return None if function is None else activation_call(function, (), {})


for _row in (
    *(
        Kind(cls, Norm, "batch_norm", axes="batch", tracks=True, roles=_SCALE)
        for cls in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    ),
    *(
        Kind(cls, Norm, "instance_norm", axes="instance", tracks=True, roles=_SCALE)
        for cls in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
    ),
    Kind(nn.GroupNorm, Norm, "group_norm", axes="group", roles=_SCALE),
    Kind(nn.LayerNorm, Norm, "layer_norm", axes="row", roles=_SCALE),
    Kind(nn.RMSNorm, Norm, "rms_norm", axes="row", roles={"weight": "scale"}),
    Kind(nn.Dropout, Dropout, "dropout"),
    Kind(nn.Dropout1d, Dropout, "dropout1d"),
    Kind(nn.Dropout2d, Dropout, "dropout2d"),
    Kind(nn.Dropout3d, Dropout, "dropout3d"),
    Kind(nn.AlphaDropout, Dropout, "alpha_dropout"),
    Kind(nn.FeatureAlphaDropout, Dropout, "feature_alpha_dropout"),
    Kind(nn.ReLU, Activation, "relu", functions=(F.relu, F.relu_, torch.relu, torch.relu_)),
    Kind(nn.LeakyReLU, Activation, "leaky_relu", constants={"negative_slope": 0.01}, functions=(F.leaky_relu,)),
    Kind(nn.ELU, Activation, "elu", constants={"alpha": 1.0}, functions=(F.elu,)),
    Kind(nn.SiLU, Activation, "silu", functions=(F.silu,)),
    Kind(nn.GELU, Activation, "gelu", functions=(F.gelu,)),
    Kind(nn.Sigmoid, Activation, "sigmoid", functions=(F.sigmoid, torch.sigmoid, torch.sigmoid_)),
    Kind(nn.Tanh, Activation, "tanh", functions=(F.tanh, torch.tanh, torch.tanh_)),
    Kind(nn.ReLU6, Activation, "relu6", constants={"min_val": 0.0, "max_val": 6.0}, functions=(F.relu6,)),
    Kind(nn.Hardswish, Activation, "hardswish", functions=(F.hardswish,)),
    *(
        Kind(cls, Affine, name, roles=_WEIGHT)
        for name, cls in (
            ("linear", nn.Linear),
            ("conv1d", nn.Conv1d),
            ("conv2d", nn.Conv2d),
            ("conv3d", nn.Conv3d),
            ("conv_transpose1d", nn.ConvTranspose1d),
            ("conv_transpose2d", nn.ConvTranspose2d),
            ("conv_transpose3d", nn.ConvTranspose3d),
        )
    ),
):
    register(_row)

# What else derives from PyTorch's own bases: lazy layers, say.
Norm.register(nn.modules.batchnorm._NormBase)
Dropout.register(nn.modules.dropout._DropoutNd)
