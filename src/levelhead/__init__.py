"""levelhead: normalization and regularization for PyTorch, exact, fast and explained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from levelhead import nn, ops
from levelhead.allocator import tune_allocator
from levelhead.moments import Moments
from levelhead.nn import convert

if TYPE_CHECKING:
    from levelhead import data, init, regularizers, training
    from levelhead.doctor import Program, examine, watch
    from levelhead.studies import Study

__all__ = [
    "Moments",
    "Program",
    "Study",
    "convert",
    "data",
    "examine",
    "init",
    "nn",
    "ops",
    "regularizers",
    "training",
    "tune_allocator",
    "watch",
]

#: Imported when first used, because they need more than torch and numpy: the name, and what it is an attribute of.
_LAZY = {"Study": "levelhead.studies", "data": None, "init": None, "regularizers": None, "training": None}
_LAZY |= {"Program": "levelhead.doctor", "examine": "levelhead.doctor", "watch": "levelhead.doctor"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'levelhead' has no attribute {name!r}")
    home = _LAZY[name]
    return import_module(f"levelhead.{name}") if home is None else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
