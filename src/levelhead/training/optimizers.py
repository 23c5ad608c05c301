"""The optimizers that a recipe can ask for."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from levelhead.training.recipe import Recipe


def optimizer(recipe: Recipe, model: nn.Module) -> Optimizer:
    """The recipe's optimizer over the parameters of a model.

    Weight decay is on the parameters of two and more dimensions that are not a normalizer's: the weights of linear
    maps, convolutions and embeddings. The form is PyTorch's fused one where it has one, the same formula in one call
    for all parameters; but not in half precision, where fused SGD on CPU leaves most weights as they are
    (pytorch/pytorch#191763, in torch 2.13).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
    theirs = {id(p) for module in model.modules() if isinstance(module, norms) for p in module.parameters()}
    decayed = [p for p in parameters if p.ndim > 1 and id(p) not in theirs] if recipe.weight_decay else []
    chosen = {id(parameter) for parameter in decayed}
    groups = [
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
        {"params": decayed, "weight_decay": recipe.weight_decay},
    ]
    groups = [group for group in groups if group["params"]]
    rate = recipe.learning_rate
    fused = all(parameter.dtype in (torch.float32, torch.float64) for parameter in parameters)
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=fused, foreach=not fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=fused, foreach=not fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=fused, foreach=not fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=recipe.momentum, foreach=True)
        case _:
            raise ValueError(f"no optimizer {recipe.optimizer!r}")
