"""levelhead: normalization and regularization for PyTorch, exact, fast and explained."""

from levelhead import nn, ops
from levelhead.allocator import tune_allocator
from levelhead.moments import Moments
from levelhead.nn import convert

__all__ = ["Moments", "convert", "nn", "ops", "tune_allocator"]
