"""Tells who listens of each ``Tensor.backward()``: the one place where every loop shows its loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor

_listeners: list[Callable[[Tensor], None]] = []
_original: Callable[..., Any] | None = None
_lock = Lock()


def listen(tell: Callable[[Tensor], None]) -> Callable[[], None]:
    """Call ``tell(tensor)`` before each ``tensor.backward()``, until the function that comes back is called.

    PyTorch has no hook for the tensor that a backward pass starts from, so ``torch.Tensor.backward`` is replaced while
    somebody listens, and put back after the last one. ``torch.autograd.backward(loss)``, called directly, is not heard.
    """
    global _original  # noqa: PLW0603
    with _lock:
        _listeners.append(tell)
        if _original is None:
            original: Callable[..., Any] = torch.Tensor.backward
            _original = original

            @functools.wraps(original)
            def heard(self: Tensor, *args: Any, **kwargs: Any) -> Any:
                for listener in tuple(_listeners):
                    listener(self)
                return original(self, *args, **kwargs)

            torch.Tensor.backward = heard  # type: ignore[method-assign]
            heard.of_levelhead = True  # type: ignore[attr-defined]
    return functools.partial(_stop, tell)


def _stop(tell: Callable[[Tensor], None]) -> None:
    global _original  # noqa: PLW0603
    with _lock:
        if tell in _listeners:
            _listeners.remove(tell)
        # Where somebody else has wrapped it since, ours stays below theirs and tells nobody.
        if not _listeners and _original is not None and hasattr(torch.Tensor.backward, "of_levelhead"):
            torch.Tensor.backward = _original  # type: ignore[method-assign]
            _original = None
