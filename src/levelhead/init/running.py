"""Running a model on a batch without a trace: no noise, no gradient, no buffer changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from levelhead.evaluation import undisturbed
from levelhead.weights import LAYERS

Batch: TypeAlias = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def run(model: nn.Module, batch: Batch, hooks: Sequence[RemovableHandle]) -> None:
    """Run a model for what hooks see, and take them off: noise is off, and normalizers take the batch's statistics.

    Modes, buffers and the random state are put back at the end.

    Args:
        model: in any mode.
        batch: a tensor is its one argument, a tuple or list its arguments, a mapping its keywords.
        hooks: those that were registered.
    """
    norms = {module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it calls no hooks
        with undisturbed(model, norms):
            if isinstance(batch, Mapping):
                model(**batch)
            else:
                model(*batch if isinstance(batch, tuple | list) else (batch,))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers and attentions of a model by name; what attention has inside belongs to it."""
    inside = {id(part) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for part in m.children()}
    kinds = (*LAYERS, nn.MultiheadAttention)
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and id(m) not in inside}


def positions(layer: nn.Module) -> int:
    """How many dimensions of a layer's output are positions; the one before them is that of its units."""
    return len(layer.kernel_size) if isinstance(layer, nn.modules.conv._ConvNd) else 0
