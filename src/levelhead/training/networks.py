"""The networks that a recipe can ask for."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from levelhead import kinds
from levelhead import nn as lh
from levelhead.data.functions import find
from levelhead.data.source import DataError
from levelhead.init import calibrate_, initialize_
from levelhead.training.initialization import activation
from levelhead.training.recipe import Recipe, RecipeError
from levelhead.training.seeding import NOISE, WEIGHTS, derive, generator

if TYPE_CHECKING:
    from levelhead.data import Dataset

#: Training rows that calibrated weights are scaled on, evenly spaced: a variance to about 10 %.
_CALIBRATION_ROWS = 250


class Hidden(nn.Module):
    """One hidden layer: σ(norm(Wx + b)), or norm(σ(Wx + b)), then dropout.

    Batch and instance normalization before the activation subtract each unit's mean and with it b, whose gradient
    would be 0 but for rounding; the layer has none there, and the normalization's shift β takes its place
    (Ioffe & Szegedy 2015, section 3.2). In all other cases b stays.

    Args:
        recipe: for normalization, placement, activation and dropout.
        layer: makes the linear map or convolution, with a bias or without.
        shape: of the layer's output for one row: (units,) or (channels, height, width).
    """

    def __init__(self, recipe: Recipe, layer: nn.Linear | nn.Conv2d, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = layer
        self.before = normalizer(recipe, shape) if recipe.placement == "before" else nn.Identity()
        self.activation = activation(recipe.activation)
        self.after = normalizer(recipe, shape) if recipe.placement == "after" else nn.Identity()
        self.dropout = nn.Dropout(recipe.dropout) if recipe.dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for a batch of rows."""
        out: Tensor = self.dropout(self.after(self.activation(self.before(self.layer(x)))))
        return out


def normalizer(recipe: Recipe, shape: tuple[int, ...]) -> nn.Module:
    """The recipe's normalization for activations of one shape, with a learned scale and shift where it has them.

    On images, layer and RMS normalization run over channels and pixels together, batch and instance normalization
    over pixels.

    Args:
        recipe: for the normalization and its groups.
        shape: of one row: (units,) or (channels, height, width).
    """
    images = len(shape) == 3
    match recipe.normalization:
        case "batch":
            return lh.BatchNorm2d(shape[0]) if images else lh.BatchNorm1d(shape[0])
        case "layer":
            return lh.LayerNorm(shape)
        case "rms":
            return lh.RMSNorm(shape)
        case "group":
            return lh.GroupNorm(recipe.groups, shape[0])
        case "instance":
            return lh.InstanceNorm2d(shape[0], affine=True)
        case _:
            return nn.Identity()


def build(recipe: Recipe, data: Dataset) -> nn.Module:
    r"""The recipe's network for the data, on the CPU, with weights that depend on the recipe's seed alone.

    - ``mlp``: flattens a row; ``depth`` hidden layers of ``width`` units; a linear output layer.
    - ``convnet``: for images (channels, height, width); ``depth`` blocks of 3×3 convolution, normalization and
      activation in three stages as equal as can be; the first block of the second and of the third stage doubles the
      channels and halves height and width (as long as 2 pixels are left); average over the pixels; a linear output
      layer.
    - ``module:function``, ``file.py:function``: the user's own; the function is called with the same two arguments,
      recipe and data, and returns a module from (rows, \*data.input_shape) to (rows, data.outputs). What it does not
      read from the recipe has no effect; the module is looked for in the current folder first.

    Raises:
        RecipeError: the network does not go with the data, or the user's function is not to be found, or it returns
            something else than is asked for.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(derive(recipe.seed, WEIGHTS))
        match recipe.network:
            case "mlp":
                model = _mlp(recipe, data)
            case "convnet":
                model = _convnet(recipe, data)
            case _:
                return _users(recipe, data)
        return _begin(model, recipe, data)


def _begin(model: nn.Module, recipe: Recipe, data: Dataset) -> nn.Module:
    """Draw the weights, all before the first bias, and calibrate them where the recipe says so.

    Two networks that differ only in their biases and normalizers begin with the same weights.
    """
    scheme = "orthogonal" if recipe.initialization == "calibrated" else recipe.initialization
    try:
        initialize_(model, scheme, generator=generator(recipe.seed, WEIGHTS))
        if recipe.initialization == "calibrated":
            inputs = data.train.inputs
            calibrate_(model, inputs[evenly(len(inputs), _CALIBRATION_ROWS)])
    except ValueError as error:
        raise RecipeError(f"initialization {recipe.initialization!r}: {error}") from error
    return model


def evenly(rows: int, most: int) -> Tensor:
    """At most so many row numbers, evenly spaced, so that sorted rows are sampled fairly."""
    return (
        torch.linspace(0, rows - 1, min(rows, most), device="cpu").long().clamp(max=rows - 1)
    )  # beyond 2**24 float32 rounds up


def _mlp(recipe: Recipe, data: Dataset) -> nn.Module:
    inputs = torch.Size(data.input_shape).numel()
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index in range(recipe.depth):
        layer = nn.Linear(inputs if index == 0 else recipe.width, recipe.width, bias=_bias(recipe))
        layers[f"hidden{index + 1}"] = Hidden(recipe, layer, (recipe.width,))
    layers["output"] = nn.Linear(recipe.width if recipe.depth else inputs, data.outputs)
    return nn.Sequential(layers)


def _convnet(recipe: Recipe, data: Dataset) -> nn.Module:
    if len(data.input_shape) != 3:
        raise RecipeError(
            f"network 'convnet' needs images (channels, height, width), and a row of {data.name} has the shape "
            f"{tuple(data.input_shape)}; use network 'mlp'"
        )
    inputs, height, width = data.input_shape
    outputs, stage = recipe.width, 0
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(recipe.depth):
        halve = index * 3 // recipe.depth > stage and min(height, width) >= 4
        if index * 3 // recipe.depth > stage:
            stage += 1
            outputs *= 2
        if halve:
            height, width = (height + 1) // 2, (width + 1) // 2
        layer = nn.Conv2d(inputs, outputs, 3, stride=2 if halve else 1, padding=1, bias=_bias(recipe))
        layers[f"hidden{index + 1}"] = Hidden(recipe, layer, (outputs, height, width))
        inputs = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(inputs, data.outputs)
    return nn.Sequential(layers)


def _bias(recipe: Recipe) -> bool:
    return not (recipe.placement == "before" and recipe.normalization in ("batch", "instance"))


def _users(recipe: Recipe, data: Dataset) -> nn.Module:
    """Call the user's function and check what it returns."""
    where = f"network {recipe.network!r}"
    try:
        function = find(recipe.network)
    except DataError as error:
        raise RecipeError(f"network {error}") from error
    model = function(recipe, data)
    if not isinstance(model, nn.Module):
        raise RecipeError(f"{where} must return a torch.nn.Module, got {type(model).__name__}")
    wanted = kinds.classes(f"{recipe.normalization}_norm")
    if wanted and not any(isinstance(module, wanted) for module in model.modules()):
        raise RecipeError(
            f"{where} has no layer of the recipe's normalization {recipe.normalization!r}; read recipe.normalization "
            "in your function, or set it to 'none'"
        )
    model.eval()
    rows = data.train.inputs[:2]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, NOISE))
        try:
            out = model(rows)
        except Exception as error:
            raise RecipeError(f"{where} fails on an input of shape {tuple(rows.shape)}: {error}") from error
    if not isinstance(out, Tensor) or out.shape != (len(rows), data.outputs):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise RecipeError(f"{where} must give outputs of shape {(len(rows), data.outputs)}, got {got}")
    if recipe.initialization != "default":
        _begin(model, recipe, data)
    return model.train()
