"""How the weights of a network begin."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import init

from levelhead.init import calibrate_, gain
from levelhead.training.recipe import Recipe, RecipeError
from levelhead.training.seeding import WEIGHTS, generator

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The activation module of a recipe's name for it."""
    return nn.GELU(approximate="tanh") if name == "gelu_tanh" else ACTIVATIONS[name]()


def initialize(model: nn.Module, recipe: Recipe) -> None:
    r"""Draw the weights of all linear and convolution layers, from ``recipe.seed`` alone.

    With :math:`n` inputs and :math:`m` outputs of a layer, and :math:`g` the ``gain`` of the activation whose output
    the layer takes (1 for the first layer, which takes the data), the weights are

    - ``default``: what PyTorch's layers do, uniform in :math:`\pm 1/\sqrt n`, and so are the biases;
    - ``zero``; ``small``: normal, of deviation 0.01; ``large``: normal, of deviation 1;
    - ``xavier``: normal, :math:`\sqrt{2/(n+m)}` (Glorot & Bengio 2010, eq. 12); ``lecun``: normal,
      :math:`\sqrt{1/n}` (LeCun et al. 1998, "Efficient backprop", section 4.6);
    - ``he``: normal, :math:`g/\sqrt n` (He et al. 2015, eq. 10);
    - ``orthogonal``: orthonormal rows or columns, times :math:`g` (Saxe et al. 2014);
    - ``calibrated``: as ``orthogonal``, and then each layer scaled until its output has unit variance on training rows,
      see ``levelhead.init.calibrate_`` (Mishkin & Matas 2016); ``build`` does the second part;

    with zero biases. So ``he`` and ``orthogonal`` give every pre-activation the mean square of the data; He et al. put
    :math:`g` on the first layer too, "for simplicity", which only relu, being homogeneous, forgives.

    All weights are drawn before the first bias: two networks that differ only in their biases and normalizers begin
    with the same weights.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    random = generator(recipe.seed, WEIGHTS)
    for index, layer in enumerate(layers):
        factor = gain(recipe.activation if index else "linear")
        _draw(layer.weight, recipe.initialization, factor, random)
    for layer in layers:
        if layer.bias is not None and recipe.initialization == "default":
            bound = 1 / math.sqrt(layer.weight[0].numel())
            init.uniform_(layer.bias, -bound, bound, generator=random)
        elif layer.bias is not None:
            init.zeros_(layer.bias)


def calibrate(model: nn.Module, rows: Tensor) -> None:
    """The second part of ``calibrated``: every layer's output gets unit variance on some rows.

    Raises:
        RecipeError: a layer cannot be calibrated.
    """
    try:
        calibrate_(model, rows)
    except ValueError as error:
        raise RecipeError(f"initialization 'calibrated': {error}") from error


def _draw(weight: Tensor, name: str, factor: float, random: torch.Generator) -> None:
    inputs = weight[0].numel()
    match name:
        case "default":
            init.uniform_(weight, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=random)
        case "zero":
            init.zeros_(weight)
        case "small":
            init.normal_(weight, std=0.01, generator=random)
        case "xavier":
            init.xavier_normal_(weight, generator=random)
        case "lecun":
            init.normal_(weight, std=1 / math.sqrt(inputs), generator=random)
        case "he":
            init.normal_(weight, std=factor / math.sqrt(inputs), generator=random)
        case "large":
            init.normal_(weight, std=1.0, generator=random)
        case "orthogonal" | "calibrated":
            init.orthogonal_(weight, gain=factor, generator=random)
        case _:
            raise ValueError(f"no initialization {name!r}")
