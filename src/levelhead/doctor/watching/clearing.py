"""Whether a loop clears its gradients, asked of one parameter in the step after a measured one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor


class Clearing:
    """One parameter, the smallest, stands for all of them.

    Args:
        safe: what keeps an error of a hook from the loop.
    """

    def __init__(self, safe: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        self._safe = safe
        self._sentinel: Tensor | None = None
        self._handle: Any = None
        self._last: tuple[Tensor, int] | None = None
        self._kept: bool | None = None
        self._arrivals = 0

    def ask(self, parameters: Iterable[Tensor]) -> None:
        """Hear of the next gradient's arrival."""
        if self._sentinel is None:
            held = [p for p in parameters if p.grad is not None and p.requires_grad and not p.grad.is_sparse]
            self._sentinel = min(held, key=lambda p: p.numel(), default=None)
        if self._sentinel is not None and self._sentinel.grad is not None:
            self._last = (self._sentinel.grad, self._sentinel.grad._version)
            self._handle = self._sentinel.register_hook(self._safe(self._arrives))

    def _arrives(self, _: Tensor) -> None:
        """Was the last step's gradient cleared before?"""
        if self._sentinel is None or self._last is None or self._kept is False:
            return
        # A gradient that is never cleared stays one tensor, whose version each arrival raises by 1.
        held, (last, version) = self._sentinel.grad, self._last
        self._kept = held is last and held._version == version + self._arrivals
        self._arrivals += 1

    def told(self) -> bool | None:
        """Whether the last step's gradient was kept; None where nobody asked, or none arrived."""
        if self._handle is None:
            return None
        self._handle.remove()
        kept, self._handle, self._kept, self._last, self._arrivals = self._kept, None, None, None, 0
        return kept
