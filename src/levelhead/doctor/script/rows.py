"""Rows of a script's training and of its evaluations, with what its losses say that they should give."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from levelhead.doctor.evidence.data import ROWS, Data, measure

#: Rows of a batch from which on no two of them share a class by chance alone.
FEW = 4
#: Numbers of the inputs that are kept, in all.
KEPT = 2**23


@dataclass
class Rows:
    """Inputs of a model with what a loss says that they should give, batch by batch, up to a few thousand rows.

    Args:
        entered: what the model was called with last.
        batches: the pairs, all of the first one's shapes.
    """

    entered: Tensor | None = None
    batches: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def compare(self, targets: Tensor) -> None:
        """Keep the inputs that are under way with their targets; of several comparisons the first."""
        x, self.entered = self.entered, None
        if x is None or x.ndim < 2 or not targets.ndim or len(x) != len(targets):
            return
        if not targets.is_floating_point() and targets.ndim == 1 and len(targets.unique()) == len(targets) > FEW:
            return  # places in the batch (of the other half of a pair), and no classes
        if any(x.shape[1:] != a.shape[1:] or targets.shape[1:] != b.shape[1:] for a, b in self.batches[:1]):
            return
        rows = sum(len(a) for a, _ in self.batches)
        if rows < ROWS and (rows + len(x)) * x[:1].numel() <= KEPT:
            self.batches.append((x.detach().clone(), targets.detach().clone()))

    def data(self) -> Data | None:
        """What was kept, measured; of rows that came several times, ``kept`` has one."""
        if not self.batches:
            return None
        found = replace(measure(self.batches), fixed_order=False)
        if found.kept is None:
            return found
        x, y = found.kept
        group = x.flatten(1).unique(dim=0, return_inverse=True)[1]
        order = group.argsort(stable=True)
        first = torch.cat([torch.ones_like(group[:1], dtype=torch.bool), group[order][1:] != group[order][:-1]])
        return replace(found, kept=(x[order[first]], y[order[first]]))
