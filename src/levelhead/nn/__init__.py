"""Modules that take the place of their ``torch.nn`` namesakes.

Each is a subclass of its namesake: the same constructor, state_dict, results and error types. Keyword-only extras:
``activation=`` is applied to the result, and ``forward(x, residual=None)`` adds the residual before the activation.
"""

from levelhead.nn.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from levelhead.nn.conversion import convert, explain
from levelhead.nn.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from levelhead.nn.folding import fold
from levelhead.nn.freezing import freeze_norm, unfreeze_norm
from levelhead.nn.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from levelhead.nn.recalibration import recalibrate
from levelhead.nn.rows import GroupNorm, LayerNorm, RMSNorm
from levelhead.nn.standardizer import Standardizer

__all__ = [
    "AlphaDropout",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
    "Standardizer",
    "convert",
    "explain",
    "fold",
    "freeze_norm",
    "recalibrate",
    "unfreeze_norm",
]
