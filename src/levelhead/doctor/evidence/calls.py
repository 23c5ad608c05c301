"""The modules that run in a forward pass, in order, with what links them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.program import first_tensor


@dataclass
class Call:
    """One run of a module without children: what went in and came out, with the graph's nodes."""

    name: str
    module: Any  # an nn.Module; what it has depends on its class
    input: Tensor | None
    output: Tensor | None
    input_node: Any
    output_node: Any


class Calls:
    """The modules that run, in order, until it is closed.

    Args:
        modules: by name.
        keep: whether what went in and came out is kept, and passes without gradients are heard of, too.
        safe: what keeps an error of a hook from the loop.
    """

    def __init__(self, modules: dict[str, nn.Module], keep: bool, safe: Callable[..., Any] = lambda hook: hook) -> None:
        self.found: list[Call] = []
        self.keep = keep
        self._entered: dict[nn.Module, tuple[Tensor | None, Any]] = {}
        self._handles: list[Any] = []
        for name, module in modules.items():
            self._handles.append(module.register_forward_pre_hook(safe(self._enters), with_kwargs=True))
            self._handles.append(module.register_forward_hook(safe(self._ran(name))))

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._entered = {}

    def _enters(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        inside = first_tensor((args, kwargs))
        self._entered[module] = inside, None if inside is None else inside.grad_fn  # it may be changed in place

    def _ran(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not self.keep and not torch.is_grad_enabled():
                return
            (inside, node), outside = self._entered.pop(module, (None, None)), first_tensor(output)
            made = None if outside is None else outside.grad_fn
            if self.keep:
                inside, outside = (None if x is None else x.detach() for x in (inside, outside))
            else:
                inside = outside = None
            self.found.append(Call(name, module, inside, outside, node, made))

        return hook
