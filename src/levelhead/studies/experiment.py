"""A run that is more than training: on a view of the data, with an observer inside the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levelhead import references

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training.probes import Observer

#: Changes the data, by the run's seed: a frozen dataclass, whose repr says what it does.
View = Callable[["Dataset", int], "Dataset"]


@dataclass(frozen=True)
class Experiment:
    """What a run has beside its recipe; it can be pickled, and says what it is.

    Args:
        view: changes the data before the run; None takes them as they are.
        observe: measures the network at every evaluation, see ``training.train``; a function of a module.
    """

    view: View | None = None
    observe: Observer | None = None

    def seen(self, data: Dataset, seed: int) -> Dataset:
        """What a run with this seed trains on."""
        return data if self.view is None else self.view(data, seed)

    @property
    def asked(self) -> dict[str, str]:
        """View and observer in words with their source, for the record: a run of others is made again."""
        asked = {}
        if self.view is not None:
            asked["view"] = repr(self.view)
        if self.observe is not None:
            asked["observe"] = references.described(self.observe)
        return asked


#: A run of the data as they are, with nothing inside the network.
PLAIN = Experiment()
