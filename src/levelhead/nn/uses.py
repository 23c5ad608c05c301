"""What the methods of a class use of a model, read from their code."""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from levelhead.nn import source

#: The classes of PyTorch whose own source is read, as a user's is.
READ = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)

#: What code that looks at the numbers of all layers within has to name, and that of one layer.
_ALL = {"parameters", "named_parameters", "buffers", "named_buffers", "state_dict", "_parameters"}
_ONE = {"weight", "bias", "running_mean", "running_var", "get_parameter", "get_buffer"}


def methods(cls: type[nn.Module]) -> dict[str, Any]:
    """The methods of a module's own classes, as they are inherited, in their decorators."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        if base in READ or base.__module__.split(".")[0] != "torch":
            found |= {k: v for k, v in vars(base).items() if isinstance(source.undecorated(v), types.FunctionType)}
    return found


def named(method: Any) -> set[str]:
    """The globals and attributes that the code of a method names."""
    return set(_names(source.undecorated(method).__code__))


def _names(code: types.CodeType) -> Iterator[str]:
    """Functions within the code included."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _reached(found: dict[str, Any]) -> set[str]:
    """The methods that ``forward`` may call, itself included."""
    reached, left = set(), ["forward"]
    while left:
        name = left.pop()
        if name in found and name not in reached:
            reached.add(name)
            left += named(found[name])
    return reached


def reads_all(cls: type[nn.Module]) -> bool:
    """Whether the ``forward`` of a class, or a method that it may call, goes through all parameters or buffers."""
    return bool(_ALL & _named(cls))


def reads_any(cls: type[nn.Module]) -> bool:
    """Whether such code names parameters or buffers of a layer."""
    return bool((_ALL | _ONE) & _named(cls))


def _named(cls: type[nn.Module]) -> set[str]:
    found = methods(cls)
    return {name for method in _reached(found) for name in named(found[method])}


def method_that_calls(cls: type[nn.Module], parts: Collection[str]) -> str | None:
    """The method, none that ``forward`` calls, in which one of these parts of a module is called."""
    found = methods(cls)
    for name in found.keys() - _reached(found):
        if name.startswith("__") or not set(parts) & named(found[name]):
            continue
        with contextlib.suppress(source.Unreadable):
            for node in ast.walk(source.read(found[name]).tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in parts:
                    return name
    return None
