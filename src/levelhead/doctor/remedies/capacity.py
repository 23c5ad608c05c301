"""Remedies of capacity: the same network with wider hidden layers, or with one hidden layer where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from levelhead.doctor.program import Program
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.network import exchange

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def can_widen(module: nn.Module) -> bool:
    """Whether a layer can be built again at another width."""
    return type(module) in (nn.Linear, *NORMS) or (type(module) in CONVOLUTIONS and getattr(module, "groups", 0) == 1)


def widen(layers: Sequence[str], norms: Sequence[str], factor: int, words: str) -> Remedy:
    """Build a chain of layers again with hidden widths times ``factor``, with new weights as torch draws them.

    Args:
        layers: linear and convolution layers, each of which takes what the one before gives (rearranged, at most).
        norms: the batch normalizations between them.
        factor: how many times as wide.
        words: what it does, in a few words.
    """

    def change(program: Program) -> None:
        built: dict[str, nn.Module] = {}
        for i, name in enumerate(layers):
            old: Any = program.model.get_submodule(name)
            ins, outs = (old.in_features, old.out_features) if isinstance(old, nn.Linear) else old.weight.shape[1::-1]
            built[name] = _layer(old, ins * (factor if i else 1), outs * (factor if i < len(layers) - 1 else 1))
        for name in norms:
            norm: Any = program.model.get_submodule(name)
            wide = norm.num_features * factor
            built[name] = type(norm)(wide, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name, module in built.items():
            exchange(program, name, module)

    code = f"# {factor} times the width in " + ", ".join(layers[:-1][:4])
    return Remedy(words, code, change)


def _layer(old: Any, ins: int, outs: int) -> nn.Module:
    if isinstance(old, nn.Linear):
        return nn.Linear(ins, outs, old.bias is not None)
    kernel = (old.kernel_size, old.stride, old.padding, old.dilation)
    made: nn.Module = type(old)(ins, outs, *kernel, 1, old.bias is not None, old.padding_mode)
    return made


def hidden_layer(name: str, width: int) -> Remedy:
    """Put a hidden layer of ReLU units in front of the only layer."""

    def change(program: Program) -> None:
        old: Any = program.model.get_submodule(name)
        last = nn.Linear(width, old.out_features)
        exchange(program, name, nn.Sequential(nn.Linear(old.in_features, width), nn.ReLU(), last))

    code = f"nn.Sequential(nn.Linear(inputs, {width}), nn.ReLU(), nn.Linear({width}, outputs))  # in place of {name}"
    return Remedy(f"a hidden layer of {width} units", code, change)
