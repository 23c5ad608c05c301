"""levelhead: normalization and regularization for PyTorch, exact, fast and explained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levelhead import data, init, nn, ops, regularizers, training
    from levelhead.allocator import tune_allocator
    from levelhead.doctor import Program, examine, watch
    from levelhead.moments import Moments
    from levelhead.nn import Standardizer, convert, fold, freeze_norm, recalibrate, unfreeze_norm
    from levelhead.studies import Study

    __version__: str

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

#: Imported when first used, so that the command's help needs no torch: the name, and what it is an attribute of
#: (None: a room of its own).
_LAZY = {
    "Moments": "levelhead.moments",
    "Program": "levelhead.doctor",
    "Standardizer": "levelhead.nn",
    "Study": "levelhead.studies",
    "convert": "levelhead.nn",
    "data": None,
    "examine": "levelhead.doctor",
    "fold": "levelhead.nn",
    "freeze_norm": "levelhead.nn",
    "init": None,
    "nn": None,
    "ops": None,
    "recalibrate": "levelhead.nn",
    "regularizers": None,
    "training": None,
    "tune_allocator": "levelhead.allocator",
    "unfreeze_norm": "levelhead.nn",
    "watch": "levelhead.doctor",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("levelhead")
    if name not in _LAZY:
        raise AttributeError(f"module 'levelhead' has no attribute {name!r}")
    home = _LAZY[name]
    if name == "Moments":
        import_module("levelhead.ops")  # gives Moments its kernel
    return import_module(f"levelhead.{name}") if home is None else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
