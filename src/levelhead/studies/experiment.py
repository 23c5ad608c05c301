"""A run that is more than training: on a view of the data, with an observer inside the network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from levelhead.data import Dataset
    from levelhead.training.probes import Observer

#: Changes the data, by the run's seed: a frozen dataclass, whose repr says what it does.
View = Callable[["Dataset", int], "Dataset"]


def source(module: str) -> str:
    """A module, or a file, with a checksum of its source; what it imports is not looked into."""
    file = Path(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")  # as workers look for it
    try:
        spec = None if file.is_file() else find_spec(module)
        path = Path(spec.origin) if spec and spec.origin else file
        return f"{module} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    except (OSError, ImportError, ValueError):  # that it is not there is told when it is called
        return module


@dataclass(frozen=True)
class Experiment:
    """What a run has beside its recipe; it can be pickled, and says what it is.

    Args:
        view: changes the data before the run; None takes them as they are.
        observe: measures the network at every evaluation, see ``training.train``; a function of a module.
    """

    view: View | None = None
    observe: Observer | None = None

    @property
    def asked(self) -> dict[str, str]:
        """View and observer in words with their source, for the record: a run of others is made again."""
        asked = {}
        if self.view is not None:
            asked["view"] = repr(self.view)
        if self.observe is not None:
            asked["observe"] = f"{self.observe.__qualname__} of {source(self.observe.__module__)}"
        return asked
