"""Batches of rows that lie in memory: indexed, not collated."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from levelhead.training.recipe import RecipeError
from levelhead.training.seeding import ORDER, generator


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
        for step in range(start, stop):
            rows = self._rows(step * self.size, (step + 1) * self.size)
            if self.world > 1:
                rows = rows[self.rank :: self.world]
            yield self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

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
            order = torch.randperm(len(self.inputs), generator=generator(self.seed, ORDER, epoch))
            self._epoch, self._order = epoch, order.to(self.inputs.device)
        return self._order
