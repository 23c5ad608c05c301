"""Which module an optimizer trains: the one that is called, one around it, or several side by side."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Parts(nn.Module):
    """Modules that a script calls one by one and trains together, or tensors without a module."""

    def __init__(self, parts: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._modules.update(parts)
        self._parameters.update(tensors)  # type: ignore[arg-type]  # as they are: copies would not be trained

    @property
    def training(self) -> bool:
        """Whether a part trains; one without parts always does."""
        return not self._modules or any(part is not None and part.training for part in self._modules.values())

    @training.setter
    def training(self, mode: bool) -> None:
        pass


def held(optimizer: torch.optim.Optimizer) -> dict[int, Tensor]:
    """The parameters of an optimizer, by their identity."""
    return {id(p): p for group in optimizer.param_groups for p in group["params"]}


def trained_by(optimizers: Iterable[torch.optim.Optimizer], called: nn.Module | None) -> nn.Module:
    """The smallest module with all of their parameters: the called one, one that holds it, or parts side by side."""
    wanted = {i: p for optimizer in optimizers for i, p in held(optimizer).items()}
    if called is not None and wanted.keys() <= _ids(called):
        return called
    named = live()
    every = list({id(m): m for _, root in named for m in root.modules()}.values())
    around = [m for m in every if wanted.keys() <= _ids(m)]
    if around:
        return min(around, key=lambda m: len(_ids(m)))
    order = list(wanted)
    roots = [(name, m) for name, m in named if _ids(m) & wanted.keys()]
    roots.sort(key=lambda pair: min(order.index(i) for i in _ids(pair[1]) & wanted.keys()))
    left = [p for i, p in wanted.items() if not any(i in _ids(m) for _, m in roots)]
    names = dict(_variables())
    parts = {name or f"part{n}": m for n, (name, m) in enumerate(roots)}
    return Parts(parts, {_name(names, p, f"tensor{n}"): p for n, p in enumerate(left)})


def live() -> list[tuple[str, nn.Module]]:
    """All modules that are in no other one, under the script's names."""
    alive: list[nn.Module] = [m for m in gc.get_objects() if issubclass(type(m), nn.Module)]
    alive = [m for m in alive if not isinstance(m, Parts) and "_modules" in m.__dict__]
    inside = {id(child) for m in alive for child in m.children()}
    names = dict(_variables())
    return [(_name(names, m, ""), m) for m in alive if id(m) not in inside]


def _ids(module: nn.Module) -> set[int]:
    return {id(p) for p in module.parameters()}


def _name(names: dict[int, str], value: Any, otherwise: str) -> str:
    return names.get(id(value), otherwise)


def _variables() -> Iterator[tuple[int, str]]:
    """What the running functions call things, those of the innermost last; fields of ``self`` too."""
    frames, frame = [], sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        frames.append(frame)
    for frame in reversed(frames):
        if frame.f_globals.get("__name__", "").partition(".")[0] in ("levelhead", "torch"):
            continue
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, nn.Module | Tensor):
                yield id(value), name
            for field, inner in list(getattr(value, "__dict__", {}).items() if name == "self" else ()):
                if isinstance(inner, nn.Module | Tensor):
                    yield id(inner), field
