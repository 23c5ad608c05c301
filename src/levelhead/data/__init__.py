"""Data: load, split, standardize; and the statistics of what is too large to load. Nothing here prints."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from levelhead.data.source import DataError, Reading
from levelhead.data.statistics import Description, Feature, describe

if TYPE_CHECKING:
    from levelhead.data.augmentation import AUGMENTATIONS, Augmentation, AugmentationError
    from levelhead.data.built_in import BUILT_IN
    from levelhead.data.dataset import Dataset, Split, Task
    from levelhead.data.loading import load

__all__ = [
    "AUGMENTATIONS",
    "BUILT_IN",
    "Augmentation",
    "AugmentationError",
    "DataError",
    "Dataset",
    "Description",
    "Feature",
    "Reading",
    "Split",
    "Task",
    "describe",
    "load",
]

#: What needs torch is imported when first used: the statistics of a file do not.
_HOMES = {
    "augmentation": ("AUGMENTATIONS", "Augmentation", "AugmentationError"),
    "built_in": ("BUILT_IN",),
    "dataset": ("Dataset", "Split", "Task"),
    "loading": ("load",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            import_module("levelhead.ops")  # gives Moments its kernel
            return getattr(import_module(f"levelhead.data.{home}"), name)
    raise AttributeError(f"module 'levelhead.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
