"""levelhead: normalization and regularization for PyTorch, exact, fast and explained."""

from levelhead.moments import Moments

__all__ = ["Moments"]
