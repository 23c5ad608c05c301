"""What a run minimizes, and what it is scored by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelhead.training.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from levelhead.data import Dataset, Split

Loss = Callable[[Tensor, Tensor], Tensor]
#: Rows in one forward pass of an evaluation: enough to hide a call's cost, few enough to stay in the cache.
_ROWS = 256


def loss_function(recipe: Recipe, data: Dataset) -> Loss:
    """The recipe's loss, a mean over the rows of a batch, as a function of outputs and targets.

    Raises:
        RecipeError: the loss does not go with the task.
    """
    classes = data.task == "classification"
    name = recipe.loss if recipe.loss != "auto" else "cross_entropy" if classes else "mse"
    if not classes and (name == "cross_entropy" or recipe.label_smoothing):
        setting = "loss 'cross_entropy'" if name == "cross_entropy" else f"label_smoothing = {recipe.label_smoothing}"
        raise RecipeError(f"{setting} needs classes, and {data.name} is regression; use 'mse', 'l1' or 'huber'")
    if name == "cross_entropy":
        return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    distance: Loss = {"mse": functional.mse_loss, "l1": functional.l1_loss, "huber": functional.huber_loss}[name]
    if not classes:
        return distance
    return lambda outputs, targets: distance(outputs, functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype))


@torch.no_grad()
def evaluate(
    model: Callable[[Tensor], Tensor], split: Split, loss: Loss, share: slice, reduce: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """Mean loss and score of a model over a split: the share of right classes, or r² (mean over the target columns).

    Args:
        model: gives outputs for inputs; in eval mode.
        split: inputs and targets, on the model's device.
        loss: as ``loss_function`` gives it.
        share: the rows that this process takes.
        reduce: sums a tensor over all processes.

    Returns:
        Loss and score; the same on every process.
    """
    inputs, targets = split.inputs[share], split.targets[share]
    classes = not targets.is_floating_point()
    losses, rights = [], []
    for x, y in zip(inputs.split(_ROWS), targets.split(_ROWS), strict=True):
        outputs = model(x)
        losses.append(loss(outputs, y).double() * len(x))
        rights.append((outputs.argmax(1) == y).sum().double() if classes else (outputs - y).double().square().sum(0))
    rows = torch.tensor(len(inputs), dtype=torch.float64, device=inputs.device)
    sums = reduce(
        torch.cat([rows.reshape(1), torch.stack(losses).sum().reshape(1), torch.stack(rights).sum(0).reshape(-1)])
    )
    count, total, right = float(sums[0]), float(sums[1]), sums[2:]
    if classes:
        return total / count, float(right) / count
    spread = (split.targets.double() - split.targets.double().mean(0)).square().sum(0)
    # A column that does not vary has r² 1 where it is met exactly and 0 elsewhere, as in scikit-learn.
    r2 = torch.where(spread > 0, 1 - right / spread, torch.where(right == 0, 1.0, 0.0))
    return total / count, float(r2.mean())


def improved(score: float, best: float) -> bool:
    """Whether a score is better than the best so far; NaN never is, and anything else is better than NaN."""
    return not math.isnan(score) and (math.isnan(best) or score > best)
