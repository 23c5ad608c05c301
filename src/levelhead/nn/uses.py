"""What the methods of a class use of a model, read from their code."""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Collection, Iterator

from torch import nn

from levelhead.nn import source

#: What code that looks at the numbers of all layers within has to name, and that of one layer.
_ALL = {"parameters", "named_parameters", "buffers", "named_buffers", "state_dict", "_parameters"}
_ONE = {"weight", "bias", "running_mean", "running_var", "get_parameter", "get_buffer"}


def _methods(cls: type[nn.Module]) -> dict[str, types.FunctionType]:
    found: dict[str, types.FunctionType] = {}
    for base in cls.__mro__:
        if base.__module__.split(".")[0] != "torch":
            members = {k: getattr(v, "__wrapped__", v) for k, v in vars(base).items()}
            found = {k: v for k, v in members.items() if isinstance(v, types.FunctionType)} | found
    return found


def names(code: types.CodeType) -> Iterator[str]:
    """The globals and attributes that some code names, functions within it included."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from names(inner)


def _reached(methods: dict[str, types.FunctionType]) -> set[str]:
    """The methods that ``forward`` may call, itself included."""
    reached, left = set(), ["forward"]
    while left:
        name = left.pop()
        if name in methods and name not in reached:
            reached.add(name)
            left += names(methods[name].__code__)
    return reached


def reads_all(cls: type[nn.Module]) -> bool:
    """Whether the ``forward`` of a class, or a method that it may call, goes through all parameters or buffers."""
    return bool(_ALL & _named(cls))


def reads_any(cls: type[nn.Module]) -> bool:
    """Whether such code names parameters or buffers of a layer."""
    return bool((_ALL | _ONE) & _named(cls))


def _named(cls: type[nn.Module]) -> set[str]:
    methods = _methods(cls)
    return {name for method in _reached(methods) for name in names(methods[method].__code__)}


def method_that_calls(cls: type[nn.Module], parts: Collection[str]) -> str | None:
    """The method, none that ``forward`` calls, in which one of these parts of a module is called."""
    methods = _methods(cls)
    for name in methods.keys() - _reached(methods):
        if name.startswith("__") or not set(parts) & set(names(methods[name].__code__)):
            continue
        with contextlib.suppress(source.Unreadable):
            for node in ast.walk(source.read(methods[name]).tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in parts:
                    return name
    return None
