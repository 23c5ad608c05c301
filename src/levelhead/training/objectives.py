"""What a run minimizes, and what it is scored by."""

from __future__ import annotations

import functools
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
#: Losses that need classes.
_OF_CLASSES = ("cross_entropy", "kl", "hinge")
#: Rows in one forward pass of an evaluation: enough to hide a call's cost, few enough to stay in the cache.
_ROWS = 256


def loss_function(recipe: Recipe, data: Dataset) -> Loss:
    """The recipe's loss, a mean over the rows of a batch, as a function of outputs and targets.

    Raises:
        RecipeError: the loss does not go with the task.
    """
    classes = data.task == "classification"
    name = recipe.loss if recipe.loss != "auto" else "cross_entropy" if classes else "mse"
    if not classes and (name in _OF_CLASSES or recipe.label_smoothing):
        setting = f"loss {name!r}" if name in _OF_CLASSES else f"label_smoothing = {recipe.label_smoothing}"
        raise RecipeError(f"{setting} needs classes, and {data.name} is regression; use 'mse', 'l1' or 'huber'")
    if name == "cross_entropy":
        return functools.partial(cross_entropy, smoothing=recipe.label_smoothing)
    if name == "kl":
        return functools.partial(divergence, smoothing=recipe.label_smoothing)
    if name == "hinge":
        return hinge
    distances: dict[str, Loss] = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "huber": nn.HuberLoss()}
    distance = distances[name]
    if not classes:
        return distance
    return lambda outputs, targets: distance(outputs, shares(targets, outputs))


def shares(targets: Tensor, outputs: Tensor) -> Tensor:
    """Class indices as a distribution over the classes; what is one already (mixed targets) stays as it is."""
    if targets.is_floating_point():
        return targets.to(outputs.dtype)
    return functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype)


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with class indices or with distributions, smoothed."""
    if targets.is_floating_point():
        targets = targets.to(outputs.dtype)
    return functional.cross_entropy(outputs, targets, label_smoothing=smoothing)


def divergence(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""The Kullback-Leibler divergence from the targets' distribution to the softmax of the outputs.

    .. math:: \frac{1}{N} \sum_i \sum_k q_{ik} (\log q_{ik} - \log p_{ik})

    Cross-entropy less the entropy of the targets: it is 0 where the network is right, for smoothed targets too.
    """
    target = shares(targets, outputs) * (1 - smoothing) + smoothing / outputs.shape[1]
    return functional.kl_div(outputs.log_softmax(1), target, reduction="batchmean")


def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""The multi-class hinge, with margin 1, summed over the wrong classes.

    .. math:: \frac{1}{N} \sum_i \sum_{j \ne y_i} \max(0, f_{ij} - f_{i y_i} + 1)

    Of mixed targets, the mean over the classes by their shares.

    Source: Weston & Watkins 1999, "Support vector machines for multi-class pattern recognition", equation 5.
    """
    target = shares(targets, outputs)
    margins = (outputs[:, None, :] - outputs[:, :, None] + 1).clamp(min=0).sum(2) - 1  # the right class has exactly 1
    return (margins * target).sum(1).mean()


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
    wide = torch.float32 if inputs.device.type == "mps" else torch.float64
    total = torch.zeros(1, dtype=wide, device=inputs.device)
    right = torch.zeros(1 if classes else targets.shape[1], dtype=wide, device=inputs.device)
    for x, y in zip(inputs.split(_ROWS), targets.split(_ROWS), strict=True):
        if len(x):  # a process may have no rows
            outputs = model(x)
            total += loss(outputs, y) * len(x)
            right += (outputs.argmax(1) == y).sum() if classes else (outputs - y).to(wide).square().sum(0)
    sums = reduce(torch.cat([total, right])).tolist()
    mean, right = sums[0] / len(split.inputs), torch.tensor(sums[1:], dtype=torch.float64)
    if classes:
        return mean, float(right) / len(split.inputs)
    spread = (split.targets.to(wide) - split.targets.to(wide).mean(0)).square().sum(0).cpu().double()
    # A column that does not vary has r² 1 where it is met exactly and 0 elsewhere, as in scikit-learn.
    r2 = torch.where(spread > 0, 1 - right / spread, torch.where(right == 0, 1.0, 0.0))
    return mean, float(r2.mean())


def improved(score: float, best: float) -> bool:
    """Whether a score is better than the best so far; NaN never is, and anything else is better than NaN."""
    return not math.isnan(score) and (math.isnan(best) or score > best)
