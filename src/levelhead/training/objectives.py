"""What a run minimizes, and what it is scored by."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelhead.moments import statistics_dtype
from levelhead.training.recipe import Recipe, RecipeError

if TYPE_CHECKING:
    from levelhead.data import Dataset

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
    of_rows = row_losses(recipe, data)
    return lambda outputs, targets: of_rows(outputs, targets).mean()


def row_losses(recipe: Recipe, data: Dataset) -> Loss:
    """The recipe's loss of each row: of outputs (rows, outputs), or of several networks' (networks, outputs, rows).

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
    distances: dict[str, nn.Module] = {
        "mse": nn.MSELoss(reduction="none"), "l1": nn.L1Loss(reduction="none"), "huber": nn.HuberLoss(reduction="none")
    }  # fmt: skip
    distance = distances[name]
    wanted = shares if classes else lambda targets, outputs: targets
    return lambda outputs, targets: distance(outputs, wanted(targets, outputs)).mean(1)


def shares(targets: Tensor, outputs: Tensor) -> Tensor:
    """Class indices as a distribution over the classes; what is one already (mixed targets) stays as it is."""
    if targets.is_floating_point():
        return targets.to(outputs.dtype)
    return functional.one_hot(targets, outputs.shape[1]).to(outputs.dtype).movedim(-1, 1)


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each row with class indices or with distributions, smoothed."""
    if targets.is_floating_point():
        targets = targets.to(outputs.dtype)
    return functional.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="none")


def divergence(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""The Kullback-Leibler divergence from each row's target distribution to the softmax of its outputs.

    .. math:: \sum_k q_{k} (\log q_{k} - \log p_{k})

    Cross-entropy less the entropy of the targets: it is 0 where the network is right, for smoothed targets too.
    """
    target = shares(targets, outputs) * (1 - smoothing) + smoothing / outputs.shape[1]
    return functional.kl_div(outputs.log_softmax(1), target, reduction="none").sum(1)


def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""The multi-class hinge of each row, with margin 1, summed over the wrong classes.

    .. math:: \sum_{j \ne y} \max(0, f_{j} - f_{y} + 1)

    Of mixed targets, the mean over the classes by their shares.

    Source: Weston & Watkins 1999, "Support vector machines for multi-class pattern recognition", equation 5.
    """
    target = shares(targets, outputs)
    margins = (outputs.unsqueeze(1) - outputs.unsqueeze(2) + 1).clamp(min=0).sum(2) - 1  # the right class has exactly 1
    return (margins * target).sum(1)


@torch.no_grad()
def evaluate(
    predict: Callable[[Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    losses: Loss,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
    *,
    metric: str = "accuracy",
) -> list[tuple[float, float]]:
    """Mean loss and score of each of several networks, as ``Dataset.metric`` names it; r² is the mean over columns.

    Args:
        predict: gives outputs (networks, outputs, rows) for inputs; in eval mode.
        inputs: (networks, rows, ...); under torchrun this process's share.
        targets: (networks, rows), or (networks, rows, columns) of numbers.
        losses: as ``row_losses`` gives it.
        reduce: sums a tensor over all processes.
        metric: of classes: ``accuracy``, or ``balanced accuracy`` over the classes that there are.

    Returns:
        Loss and score by the network; the same on every process.
    """
    classes = not targets.is_floating_point()
    wide = statistics_dtype(inputs.device)
    count = torch.full((len(inputs), 1), inputs.shape[1], dtype=wide, device=inputs.device)
    total, missed, seen = (torch.zeros_like(count) for _ in range(3))
    if not classes:
        missed = torch.zeros(len(inputs), targets.shape[2], dtype=wide, device=inputs.device)
    for x, y in zip(inputs.split(_ROWS, 1), targets.split(_ROWS, 1), strict=True):
        if x.shape[1]:  # a process may have no rows
            outputs, wanted = predict(x), y if classes else y.transpose(1, 2)
            total[:, 0] += losses(outputs, wanted).to(wide).sum(1)
            wrong = outputs.argmax(1) != wanted if classes else (outputs - wanted).to(wide).square()
            if metric == "balanced accuracy":
                of_class = functional.one_hot(wanted, outputs.shape[1]).to(wide)
                seen = seen + of_class.sum(1)
                missed = missed + (of_class * wrong[..., None]).sum(1)
            else:
                missed += wrong.sum(-1, keepdim=classes)
    sums = reduce(torch.cat([count, total, missed, seen.expand_as(missed)], 1)).cpu().double()
    count, total, missed, seen = sums.split([1, 1, missed.shape[1], missed.shape[1]], 1)
    if metric == "balanced accuracy":
        rates = (seen - missed) / seen  # NaN of a class that has no row
        score = rates.nanmean(1, keepdim=True)
    elif classes:
        score = (count - missed) / count
    else:
        values = targets.to(wide)
        means = reduce(values.sum(1)) / count.to(values)
        spread = reduce((values - means[:, None]).square().sum(1)).cpu().double()
        # A column that does not vary has r² 1 where it is met exactly and 0 elsewhere, as in scikit-learn.
        score = torch.where(spread > 0, 1 - missed / spread, torch.where(missed == 0, 1.0, 0.0))
    return list(zip((total / count)[:, 0].tolist(), score.mean(1).tolist(), strict=True))


def validation_score(outputs: Tensor, recipe: Recipe, data: Dataset) -> float:
    """The score of outputs (rows, outputs) for the validation rows, as a run has it."""
    targets, losses = data.validation.targets[None], row_losses(recipe, data)
    return evaluate(lambda x: x.transpose(1, 2), outputs[None], targets, losses, metric=data.metric)[0][1]


def improved(score: float, best: float) -> bool:
    """Whether a score is better than the best so far; NaN never is, and anything else is better than NaN."""
    return not math.isnan(score) and (math.isnan(best) or score > best)
