"""Modules that take the place of their ``torch.nn`` namesakes.

Each is a subclass of its namesake: the same constructor, state_dict, results and error types. Keyword-only extras:
``activation=`` is applied to the result, and ``forward(x, residual=None)`` adds the residual before the activation.
What works on whole models is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from levelhead import kinds
from levelhead.nn.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from levelhead.nn.dropout import AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout
from levelhead.nn.freezing import freeze_norm, unfreeze_norm
from levelhead.nn.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from levelhead.nn.policy import StatePolicy
from levelhead.nn.rows import GroupNorm, LayerNorm, RMSNorm
from levelhead.nn.sync import SyncBatchNorm

if TYPE_CHECKING:
    from levelhead.nn.conversion import convert, explain, unconvert
    from levelhead.nn.folding import fold
    from levelhead.nn.recalibration import recalibrate
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
    "StatePolicy",
    "SyncBatchNorm",
    "convert",
    "explain",
    "fold",
    "freeze_norm",
    "recalibrate",
    "unconvert",
    "unfreeze_norm",
]

kinds.takes_the_place(BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm, LayerNorm, RMSNorm, GroupNorm)
kinds.takes_the_place(InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)
kinds.takes_the_place(Dropout, Dropout1d, Dropout2d, Dropout3d, AlphaDropout, FeatureAlphaDropout)

_LAZY = {
    "Standardizer": "standardizer",
    "convert": "conversion",
    "explain": "conversion",
    "fold": "folding",
    "recalibrate": "recalibration",
    "unconvert": "conversion",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'levelhead.nn' has no attribute {name!r}")
    return getattr(import_module(f"levelhead.nn.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
