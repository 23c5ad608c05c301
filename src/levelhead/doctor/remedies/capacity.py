"""Remedies of capacity: the same network with wider hidden layers, or with one hidden layer where it has none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from levelhead.doctor.program import Program
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.network import exchange

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM)


def can_widen(module: nn.Module) -> bool:
    """Whether a layer can be built again at another width."""
    if type(module) in CONVOLUTIONS:
        return getattr(module, "groups", 0) == 1
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1
    return type(module) in (nn.Linear, nn.Embedding, nn.GroupNorm, *BATCH_NORMS, *RECURRENT)


def units(module: Any) -> int:
    """How many units a layer has; 0 of a normalization."""
    for name in ("out_features", "out_channels", "embedding_dim", "hidden_size"):
        if hasattr(module, name):
            return int(getattr(module, name))
    return 0


def widen(names: Sequence[str], given: Collection[str], factor: int, words: str) -> Remedy:
    """Build a network again with hidden widths times ``factor``, with new weights as torch draws them.

    Where its layers do not fit each other then (inputs that are joined to hidden values, say), it cannot be run.

    Args:
        names: all that has weights, in the order in which it runs; the last gives the outputs.
        given: those that take the program's own inputs, whose width stays.
        factor: how many times as wide.
        words: what it does, in a few words.
    """

    def change(program: Program) -> None:
        for name in names:
            ins, outs = 1 if name in given else factor, 1 if name == names[-1] else factor
            exchange(program, name, _wider(program.model.get_submodule(name), ins, outs))

    code = f"# {factor} times the width in " + ", ".join(names[:-1][:4])
    return Remedy(words, code, change)


def _wider(old: Any, ins: int, outs: int) -> nn.Module:
    """The layer with so many times the inputs and the outputs; a normalization has as many as it gets."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features * ins, old.out_features * outs, old.bias is not None)
    if isinstance(old, nn.Embedding):
        return nn.Embedding(old.num_embeddings, old.embedding_dim * outs, old.padding_idx)
    if isinstance(old, RECURRENT):
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        rest = {name: getattr(old, name) for name in names}
        rest |= {"nonlinearity": old.nonlinearity} if isinstance(old, nn.RNN) else {}
        made: nn.Module = type(old)(old.input_size * ins, old.hidden_size * outs, **rest)
        return made
    if isinstance(old, nn.LayerNorm):
        return nn.LayerNorm(old.normalized_shape[0] * ins, old.eps, old.elementwise_affine)
    if isinstance(old, nn.GroupNorm):
        return nn.GroupNorm(old.num_groups, old.num_channels * ins, old.eps, old.affine)
    if isinstance(old, BATCH_NORMS):
        return type(old)(old.num_features * ins, old.eps, old.momentum, old.affine, old.track_running_stats)
    kernel = (old.kernel_size, old.stride, old.padding, old.dilation)
    channels = old.in_channels * ins, old.out_channels * outs
    wide: nn.Module = type(old)(*channels, *kernel, 1, old.bias is not None, old.padding_mode)
    return wide


def hidden_layer(name: str, width: int) -> Remedy:
    """Put a hidden layer of ReLU units in front of the only layer."""

    def change(program: Program) -> None:
        old: Any = program.model.get_submodule(name)
        last = nn.Linear(width, old.out_features)
        exchange(program, name, nn.Sequential(nn.Linear(old.in_features, width), nn.ReLU(), last))

    code = f"nn.Sequential(nn.Linear(inputs, {width}), nn.ReLU(), nn.Linear({width}, outputs))  # in place of {name}"
    return Remedy(f"a hidden layer of {width} units", code, change)
