"""Tells who listens of each ``Tensor.backward()``: the one place where every loop shows its loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_listeners: list[Callable[[Tensor], None]] = []
_originals: list[tuple[type, str, Callable[..., Any]]] = []
_meant = WeakTensorKeyDictionary()
_lock = Lock()


def listen(tell: Callable[[Tensor], None]) -> Callable[[], None]:
    """Call ``tell(tensor)`` before each ``tensor.backward()``, until the function that comes back is called.

    PyTorch has no hook for the tensor that a backward pass starts from, so ``torch.Tensor.backward`` is replaced while
    somebody listens, and put back after the last one; so is ``GradScaler.scale``, that a scaled loss is told as it was
    before. ``torch.autograd.backward(loss)``, called directly, is not heard.
    """
    with _lock:
        _listeners.append(tell)
        if not _originals:
            _wrap(torch.Tensor, "backward", _heard)
            _wrap(torch.amp.GradScaler, "scale", _scaled)
    return functools.partial(_stop, tell)


def _heard(original: Callable[..., Any]) -> Callable[..., Any]:
    def backward(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        meant = _meant.get(self, self) if _meant.data else self  # a look-up costs as much as all the rest
        for listener in tuple(_listeners):
            listener(meant)
        return original(self, *args, **kwargs)

    return backward


def _scaled(original: Callable[..., Any]) -> Callable[..., Any]:
    def scale(self: Any, outputs: Any) -> Any:
        scaled = original(self, outputs)
        if isinstance(outputs, Tensor) and scaled is not outputs:
            _meant[scaled] = outputs.detach()
        return scaled

    return scale


def _wrap(owner: type, name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    wrapped = functools.wraps(original)(by(original))
    wrapped.of_levelhead = True  # type: ignore[attr-defined]
    _originals.append((owner, name, original))
    setattr(owner, name, wrapped)


def _stop(tell: Callable[[Tensor], None]) -> None:
    with _lock:
        if tell in _listeners:
            _listeners.remove(tell)
        # Where somebody else has wrapped it since, ours stays below theirs and tells nobody.
        if not _listeners and all(hasattr(getattr(owner, name), "of_levelhead") for owner, name, _ in _originals):
            for owner, name, original in _originals:
                setattr(owner, name, original)
            _originals.clear()
