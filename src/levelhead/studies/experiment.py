"""A run that is more than training: on a view of the data, with an observer inside the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.records import Run
    from levelhead.training import Recipe
    from levelhead.training.probes import Observer

#: Changes the data, by the run's seed: a frozen dataclass, whose repr says what it does.
View = Callable[["Dataset", int], "Dataset"]


@dataclass(frozen=True)
class Experiment:
    """What a worker does in place of plain training; it can be pickled, and says what it is.

    Args:
        view: changes the data before the run; None takes them as they are.
        observe: measures the network at every evaluation, see ``training.train``; a function of a module.
    """

    view: View | None = None
    observe: Observer | None = None

    def __call__(self, recipe: Recipe, data: Dataset, **options: Any) -> Run:
        """Train, as ``training.train`` does."""
        from levelhead.training import train

        seen = data if self.view is None else self.view(data, recipe.seed)
        return dataclasses.replace(train(recipe, seen, observe=self.observe, **options), asked=self.asked)

    @property
    def asked(self) -> dict[str, str]:
        """View and observer in words, for the record: a run of others is made again."""
        asked = {}
        if self.view is not None:
            asked["view"] = repr(self.view)
        if self.observe is not None:
            asked["observe"] = f"{self.observe.__module__}.{self.observe.__qualname__}"
        return asked
