"""Data: load, split, standardize; and the statistics of what is too large to load. Nothing here prints."""

from levelhead import ops as ops  # gives Moments its kernel
from levelhead.data.augmentation import AUGMENTATIONS, Augmentation, AugmentationError
from levelhead.data.built_in import BUILT_IN
from levelhead.data.dataset import DataError, Dataset, Split, Task
from levelhead.data.loading import load
from levelhead.data.statistics import Description, Feature, describe

__all__ = [
    "AUGMENTATIONS",
    "BUILT_IN",
    "Augmentation",
    "AugmentationError",
    "DataError",
    "Dataset",
    "Description",
    "Feature",
    "Split",
    "Task",
    "describe",
    "load",
]
