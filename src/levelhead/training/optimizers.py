"""The optimizers and the regularizers that a recipe can ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead.regularizers import (
    L1,
    L2,
    ElasticNet,
    GroupLasso,
    MaxNorm,
    Orthogonal,
    Penalty,
    SpectralNorm,
    decay_groups,
)
from levelhead.training.recipe import Recipe

_PENALTIES: dict[str, type[Penalty]] = {
    "l1": L1, "l2": L2, "group_lasso": GroupLasso, "orthogonal": Orthogonal, "spectral": SpectralNorm
}  # fmt: skip


def optimizer(recipe: Recipe, model: nn.Module, of: Callable[[Tensor], Tensor] | None = None) -> Optimizer:
    """The recipe's optimizer over the parameters of a model, or over what ``of`` gives in the place of each.

    Weight decay is on the parameters of two and more dimensions that are not a normalizer's: the weights of linear
    maps, convolutions and embeddings. The form is PyTorch's fused one where it has one, the same formula in one call
    for all parameters; but not in half precision, where fused SGD on CPU leaves most weights as they are
    (pytorch/pytorch#191763, in torch 2.13), and in the place of others only plain SGD's, since the rest round the last
    values of a tensor by where they stand.
    """
    groups = decay_groups(model, recipe.weight_decay, None if recipe.weight_decay else lambda name, parameter: True)
    parameters = [parameter for group in groups for parameter in group["params"]]
    rate = recipe.learning_rate
    fused = all(parameter.dtype in (torch.float32, torch.float64) for parameter in parameters)
    if of is not None:
        groups = [{**group, "params": [of(parameter) for parameter in group["params"]]} for group in groups]
        fused = fused and recipe.optimizer == "sgd" and not (recipe.momentum or recipe.weight_decay)
    if recipe.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=recipe.momentum, foreach=True)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=fused, foreach=not fused)
    adam: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return adam(groups, lr=rate, fused=fused, foreach=not fused)


def penalty(recipe: Recipe) -> Penalty | None:
    """The recipe's R(W); None where it has none."""
    strength, share = recipe.penalty_strength, recipe.penalty_l1_share
    if strength == 0:
        return None
    if recipe.penalty == "elastic_net":
        return ElasticNet(strength * share, strength * (1 - share))
    return _PENALTIES[recipe.penalty](strength)


def regularize(recipe: Recipe, model: nn.Module, optimizer: Optimizer) -> Callable[[], Tensor] | None:
    """Attach what acts after each step; return what is to be added to the loss, if there is anything."""
    term = penalty(recipe)
    added = None
    if term is not None and recipe.penalty_form == "decoupled":
        term.attach(optimizer, model)
    elif term is not None:
        added = partial(term.of(model), 0)
    if recipe.max_norm is not None:  # last: a bound that holds after the step
        MaxNorm(recipe.max_norm).attach(optimizer, model)
    return added
