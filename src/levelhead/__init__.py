"""levelhead: normalization and regularization for PyTorch, exact, fast and explained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from levelhead import nn, ops
from levelhead.allocator import tune_allocator
from levelhead.moments import Moments
from levelhead.nn import freeze_norm, unfreeze_norm

if TYPE_CHECKING:
    from levelhead import data, init, regularizers, training
    from levelhead.doctor import Program, examine, watch
    from levelhead.nn import Standardizer, convert, fold, recalibrate
    from levelhead.studies import Study

__all__ = [
    "Moments",
    "Program",
    "Standardizer",
    "Study",
    "convert",
    "data",
    "examine",
    "fold",
    "freeze_norm",
    "init",
    "nn",
    "ops",
    "recalibrate",
    "regularizers",
    "training",
    "tune_allocator",
    "unfreeze_norm",
    "watch",
]

#: Imported when first used, because they need more than torch and numpy, or are not cheap: the name, and what it is an
#: attribute of (None: a room of its own).
_LAZY = {
    "Program": "levelhead.doctor",
    "Standardizer": "levelhead.nn",
    "Study": "levelhead.studies",
    "convert": "levelhead.nn",
    "data": None,
    "examine": "levelhead.doctor",
    "fold": "levelhead.nn",
    "init": None,
    "recalibrate": "levelhead.nn",
    "regularizers": None,
    "training": None,
    "watch": "levelhead.doctor",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'levelhead' has no attribute {name!r}")
    home = _LAZY[name]
    return import_module(f"levelhead.{name}") if home is None else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
