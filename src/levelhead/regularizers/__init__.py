"""Regularizers: penalties, constraints, noise, and what is done to batches and to the end of training."""

from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.constraints import Constraint, MaxNorm, UnitNorm
from levelhead.regularizers.decay import decay_groups
from levelhead.regularizers.elementwise import L1, L2, ElasticNet
from levelhead.regularizers.mixing import cutmix, mixup, smooth_labels
from levelhead.regularizers.penalty import Penalty
from levelhead.regularizers.schedules import Cosine, Linear, Schedule
from levelhead.regularizers.selection import Where, select
from levelhead.regularizers.structured import GroupLasso, Orthogonal, SpectralNorm

__all__ = [
    "L1",
    "L2",
    "Attachment",
    "Constraint",
    "Cosine",
    "ElasticNet",
    "GroupLasso",
    "Linear",
    "MaxNorm",
    "Orthogonal",
    "Penalty",
    "Schedule",
    "SpectralNorm",
    "UnitNorm",
    "Where",
    "cutmix",
    "decay_groups",
    "mixup",
    "select",
    "smooth_labels",
]
