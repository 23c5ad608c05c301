"""Regularizers: penalties, constraints, noise, and what is done to batches and to the end of training."""

from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.constraints import Constraint, MaxNorm, UnitNorm
from levelhead.regularizers.decay import decay_groups
from levelhead.regularizers.elementwise import L1, L2, ElasticNet
from levelhead.regularizers.mixing import cutmix, mixup, smooth_labels
from levelhead.regularizers.noise import (
    DropBlock2d,
    DropConnect,
    DropPath,
    GaussianDropout,
    GaussianNoise,
    Noise,
    ShakeDrop,
)
from levelhead.regularizers.penalty import Penalty
from levelhead.regularizers.rates import mc_predict, schedule_rates
from levelhead.regularizers.schedules import Cosine, Linear, Schedule
from levelhead.regularizers.selection import Where, select
from levelhead.regularizers.stopping import EarlyStopping
from levelhead.regularizers.structured import GroupLasso, Orthogonal, SpectralNorm

__all__ = [
    "L1",
    "L2",
    "Attachment",
    "Constraint",
    "Cosine",
    "DropBlock2d",
    "DropConnect",
    "DropPath",
    "EarlyStopping",
    "ElasticNet",
    "GaussianDropout",
    "GaussianNoise",
    "GroupLasso",
    "Linear",
    "MaxNorm",
    "Noise",
    "Orthogonal",
    "Penalty",
    "Schedule",
    "ShakeDrop",
    "SpectralNorm",
    "UnitNorm",
    "Where",
    "cutmix",
    "decay_groups",
    "mc_predict",
    "mixup",
    "schedule_rates",
    "select",
    "smooth_labels",
]
