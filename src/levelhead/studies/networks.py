"""Networks that studies train beside the recipe's own; a recipe names them ``levelhead.studies.networks:...``."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import Tensor, nn

from levelhead.training.initialization import activation
from levelhead.training.networks import build, normalizer

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training import Recipe


class Block(nn.Module):
    """A residual block: x + f(norm(x)) where ``first``, else norm(x + f(x)), with f(x) = W₂σ(W₁x)."""

    def __init__(self, recipe: Recipe, *, first: bool) -> None:
        super().__init__()
        width = recipe.width
        self.norm, self.first = normalizer(recipe, (width,)), first
        self.inner = nn.Sequential(nn.Linear(width, width), activation(recipe.activation), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out: Tensor = x + self.inner(self.norm(x)) if self.first else self.norm(x + self.inner(x))
        return out


def probabilities(recipe: Recipe, data: Dataset) -> nn.Module:
    """The recipe's MLP with a softmax behind it, for losses that compare distributions."""
    return nn.Sequential(build(recipe.replace(network="mlp"), data), nn.Softmax(1))


def pre_norm(recipe: Recipe, data: Dataset) -> nn.Module:
    """A residual MLP of ``depth`` blocks that normalize their input; a last norm before the output."""
    return _residual(recipe, data, first=True)


def post_norm(recipe: Recipe, data: Dataset) -> nn.Module:
    """A residual MLP of ``depth`` blocks that normalize the sum."""
    return _residual(recipe, data, first=False)


def _residual(recipe: Recipe, data: Dataset, *, first: bool) -> nn.Module:
    inputs = data.train.inputs[0].numel()
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten(), embed=nn.Linear(inputs, recipe.width))
    for i in range(recipe.depth):
        parts[f"block{i + 1}"] = Block(recipe, first=first)
    if first:
        parts["norm"] = normalizer(recipe, (recipe.width,))
    parts["output"] = nn.Linear(recipe.width, data.outputs)
    return nn.Sequential(parts)
