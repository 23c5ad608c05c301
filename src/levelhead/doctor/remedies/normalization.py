"""Remedies of normalization and its statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from levelhead import nn as nn_of_levelhead
from levelhead.doctor.program import Program, forward, standard_evaluate
from levelhead.doctor.remedies.base import Remedy


class Recalibrated:
    """An evaluation that first takes the population statistics of the batch normalizations."""

    def __init__(self, evaluate: Callable[..., float] | None, inputs: Any) -> None:
        self.evaluate, self.inputs = evaluate or standard_evaluate, inputs

    def __call__(self, program: Program) -> float:
        """Recalibrate, then evaluate."""
        recalibrate(program.model, self.inputs)
        return self.evaluate(program)


def recalibrate(model: nn.Module, inputs: Any, rows: int = 256) -> None:
    """The population's statistics of these inputs, all rows of them (``levelhead.recalibrate``)."""
    nn_of_levelhead.recalibrate(model, torch.split(inputs, rows), forward=forward)


def recalibration(inputs: Any) -> Remedy:
    """Population statistics before evaluation."""

    def change(program: Program) -> None:
        program.evaluate = Recalibrated(program.evaluate, inputs)

    return Remedy("population statistics before evaluation", "levelhead.recalibrate(model, batches)", change)


def momentum(names: Sequence[str], value: float = 0.1) -> Remedy:
    """Another momentum in these batch normalizations."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).momentum = value  # type: ignore[assignment]

    return Remedy(f"momentum {value:g} in batch normalization", f"nn.BatchNorm2d(channels, momentum={value:g})", change)


def reset_statistics(names: Sequence[str]) -> Remedy:
    """Running statistics back to 0 and 1."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).reset_running_stats()  # type: ignore[operator]

    return Remedy("running statistics reset", "norm.reset_running_stats()", change)


def wide_statistics(names: Sequence[str]) -> Remedy:
    """Batch normalizations in float32; their outputs keep the type of their inputs."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).float()

    return Remedy("batch normalization in float32", "norm.float()", change)


def without_batch_statistics(norm: nn.Module) -> nn.Module:
    """A normalization of single rows in the place of batch normalization."""
    channels: int = norm.num_features  # type: ignore[assignment]
    if isinstance(norm, nn.BatchNorm1d):
        return nn.LayerNorm(channels)
    return nn.GroupNorm(math.gcd(channels, 8), channels)


def over_all_channels(norm: nn.Module) -> nn.Module:
    """The same over all channels of a row; none where there is only one."""
    return nn.GroupNorm(1, norm.num_channels) if isinstance(norm, nn.GroupNorm) else nn.Identity()


def norm_for(layer: nn.Module) -> nn.Module:
    """A batch normalization for the outputs of a linear or convolution layer."""
    if isinstance(layer, nn.Linear):
        return nn.BatchNorm1d(layer.out_features)
    dims = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
    return dims[type(layer)](layer.out_channels)  # type: ignore[index, arg-type]
