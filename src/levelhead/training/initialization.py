"""How the weights of a network begin."""

from __future__ import annotations

from torch import Tensor, nn

from levelhead.init import calibrate_, initialize_
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
    """Draw all weights by ``levelhead.init.initialize_``, from ``recipe.seed`` alone.

    ``calibrated`` is ``orthogonal``, and then each layer scaled until its output has unit variance on training rows,
    see ``levelhead.init.calibrate_`` (Mishkin & Matas 2016); ``build`` does the second part.

    All weights are drawn before the first bias: two networks that differ only in their biases and normalizers begin
    with the same weights.

    Raises:
        RecipeError: a weight cannot be drawn.
    """
    scheme = "orthogonal" if recipe.initialization == "calibrated" else recipe.initialization
    try:
        initialize_(model, scheme, generator=generator(recipe.seed, WEIGHTS))
    except ValueError as error:
        raise RecipeError(f"initialization {recipe.initialization!r}: {error}") from error


def calibrate(model: nn.Module, rows: Tensor) -> None:
    """The second part of ``calibrated``: every layer's output gets unit variance on some rows.

    Raises:
        RecipeError: a layer cannot be calibrated.
    """
    try:
        calibrate_(model, rows)
    except ValueError as error:
        raise RecipeError(f"initialization 'calibrated': {error}") from error
