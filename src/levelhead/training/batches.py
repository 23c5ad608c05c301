"""Batches of rows that lie in memory: indexed, not collated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levelhead.data.augmentation import Augmentation, AugmentationError
from levelhead.regularizers import cutmix, mixup
from levelhead.training.recipe import Recipe, RecipeError
from levelhead.training.seeding import AUGMENTATION, ORDER, derive, generator

if TYPE_CHECKING:
    from levelhead.data import Dataset


class Batches:
    """The rows of the training split in a seeded random order without end.

    Each epoch is a permutation of its own, and one epoch runs on into the next, so that all batches have the same
    size (batch normalization has no last batch of one) and every row comes equally often. The batch of a step is a
    pure function of seed and step: a resumed run needs nothing but its step.

    Args:
        inputs: (rows, ...).
        targets: (rows, ...), on the same device.
        size: rows a batch, over all processes.
        seed: of the permutations.
        rank: which of the processes this is; it takes the rows ``rank::world`` of each batch.
        world: how many processes there are.

    Raises:
        RecipeError: a batch is larger than the split, or not divisible among the processes.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if size > len(inputs):
            raise RecipeError(f"batch_size = {size} is more than the {len(inputs)} training rows; use {len(inputs)}")
        if size % world:
            raise RecipeError(
                f"batch_size = {size} is not divisible among {world} processes; use a multiple of {world}"
            )
        self.inputs, self.targets = inputs, targets
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def between(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the steps from ``start`` to before ``stop``, the first step being 0."""
        for rows in self.rows(start, stop):
            yield self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

    def rows(self, start: int, stop: int) -> Tensor:
        """The row numbers of those batches that this process takes: (steps, rows)."""
        rows = torch.stack([self._rows(step * self.size, (step + 1) * self.size) for step in range(start, stop)])
        return rows[:, self.rank :: self.world]

    def _rows(self, start: int, stop: int) -> Tensor:
        """The row numbers at the places from start to before stop of the endless order."""
        epoch, first = divmod(start, len(self.inputs))
        last = first + stop - start
        rows = self._permutation(epoch)[first:last]
        if last > len(self.inputs):
            rows = torch.cat([rows, self._permutation(epoch + 1)[: last - len(self.inputs)]])
        return rows

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            order = torch.randperm(len(self.inputs), generator=generator(self.seed, ORDER, epoch), device="cpu")
            self._epoch, self._order = epoch, order.to(self.inputs.device)
        return self._order


#: The inputs and targets of a batch and its step, to what is trained on; mixed targets are distributions.
Augment = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def augmentation(recipe: Recipe, data: Dataset, rank: int = 0) -> Augment | None:
    """What the recipe does to each training batch, as a pure function of it and its step; None where it does nothing.

    Mixing has α = 0.2·strength for ``mixup`` and α = strength for ``cutmix``.

    Raises:
        RecipeError: it does not go with the data, or needs a package that is not installed.
    """
    strength = recipe.augmentation_strength
    if not recipe.augmentation or strength == 0:
        return None
    seed = derive(recipe.seed, AUGMENTATION, rank)
    known = {"mixup": partial(mixup, alpha=0.2 * strength), "cutmix": partial(cutmix, alpha=strength)}
    if "cutmix" in recipe.augmentation and len(data.input_shape) < 2:
        raise RecipeError(f"augmentation 'cutmix' needs images or signals, and {data.name} has rows; use 'mixup'")
    own = [name for name in recipe.augmentation if name not in known]
    try:
        change = Augmentation(own, data.train.inputs, strength=strength, seed=seed) if own else None
    except AugmentationError as error:
        raise RecipeError(f"augmentation: {error}") from error
    classes = data.outputs if data.task == "classification" else None
    mixes = [known[name] for name in recipe.augmentation if name in known]

    def augment(inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        inputs = inputs if change is None else change(inputs, step)
        random = generator(seed, AUGMENTATION, step) if mixes else None
        for mix in mixes:
            inputs, targets = mix(inputs, targets, classes=classes, generator=random)
        return inputs, targets

    return augment
