"""Data: load, split, standardize; and the statistics of what is too large to load. Nothing here prints."""

from levelhead.data.built_in import BUILT_IN
from levelhead.data.dataset import DataError, Dataset, Split, Task
from levelhead.data.loading import load
from levelhead.data.statistics import Description, Feature, describe

__all__ = ["BUILT_IN", "DataError", "Dataset", "Description", "Feature", "Split", "Task", "describe", "load"]
