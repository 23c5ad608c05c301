"""Turning a model's layers into levelhead's."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from levelhead.nn.batch import BatchNorm1d, BatchNorm2d, BatchNorm3d
from levelhead.nn.instance import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from levelhead.nn.rows import GroupNorm, LayerNorm, RMSNorm

Model = TypeVar("Model", bound=nn.Module)

#: By namesake. Only exact types are replaced: a subclass of PyTorch's may mean something else.
_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.GroupNorm: GroupNorm,
    nn.InstanceNorm1d: InstanceNorm1d,
    nn.InstanceNorm2d: InstanceNorm2d,
    nn.InstanceNorm3d: InstanceNorm3d,
    nn.LayerNorm: LayerNorm,
    nn.RMSNorm: RMSNorm,
}


def convert(model: Model) -> Model:
    """Replace every normalization layer of a model by levelhead's, one by one, in place.

    Parameters, buffers, hooks, modes and the names in the state_dict stay what they are, and so do references to a
    layer from elsewhere: each module keeps its identity and takes its replacement's class. Lazy modules are converted
    once they have their shapes.

    Args:
        model: any module; one that is itself a normalization layer is converted too.

    Returns:
        The same object.

    Raises:
        TypeError: ``model`` is not a module.

    Example:
        >>> convert(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))[1].__class__.__module__
        'levelhead.nn.batch'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert takes a torch.nn.Module, got {type(model).__name__}")
    for module in model.modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
    return model
