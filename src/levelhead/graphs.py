"""What follows what in a model: the graph of its code, as ``torch.fx`` traces it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn


class Untraceable(Exception):
    """Why the code of a model cannot be traced, in a line."""


class _Tracer(fx.Tracer):
    """Looks into no leaf, and notes which tensors the code around them reads."""

    def __init__(self, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.is_leaf = is_leaf
        self.read: set[int] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """What ``self.conv.weight`` gives in the code that is traced."""
        if isinstance(attr_val, Tensor):
            self.read.add(id(attr_val))
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        """What an operation takes, as a parameter that came from ``self.parameters()``."""
        if isinstance(a, nn.Parameter):
            self.read.add(id(a))
        return super().create_arg(a)


def graph(module: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> tuple[fx.Graph, set[int]]:
    """The graph of a module's code with the defaults of its arguments, and the ids of the tensors that the code reads.

    Args:
        module: it is not changed.
        is_leaf: which modules are one node each, beside PyTorch's own.

    Raises:
        Untraceable: whatever the code does with a value that is not there.
    """
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    tracer = _Tracer(is_leaf)
    try:
        return tracer.trace(module, defaults), tracer.read
    except Exception as error:
        raise Untraceable(f"{type(error).__name__}: {error}".splitlines()[0]) from error
