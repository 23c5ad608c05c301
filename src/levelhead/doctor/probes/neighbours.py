"""Whether rows that lie close to each other share their label: what a label has to do with its inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Rows that are compared with each other; a matrix of this size squared is held.
ROWS = 1000
NEIGHBOURS = 5


def agreement(inputs: Tensor, labels: Tensor, seed: int = 0) -> tuple[float, float, float] | None:
    """How often a row's label is the commonest of its five nearest neighbours' (Cover & Hart 1967).

    Args:
        inputs: rows of any shape.
        labels: one whole number a row.
        seed: of the choice of rows, where there are many, and of the permutation.

    Returns:
        The share, the share with the labels permuted, and the standard error; None where there are fewer than 60
        rows, or labels that are not one number a row.
    """
    if labels.ndim != 1 or len(inputs) != len(labels) or len(inputs) < 60:
        return None
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    chosen = order[:ROWS].to(inputs.device)
    x, y = inputs[chosen].flatten(1).double(), labels[chosen].long()
    x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    std = x.std(0)
    # Columns that hardly vary are not blown up: their deviation counts as a tenth of the typical one at least.
    x = (x - x.mean(0)) / std.clamp_min(0.1 * float(std.median()) + 1e-12)
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices
    y = y.unique(return_inverse=True)[1]
    permuted = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 1)).to(y.device)]
    shares = [float((_vote(labels_[nearest]) == labels_).double().mean()) for labels_ in (y, permuted)]
    return shares[0], shares[1], math.sqrt(max(shares[0] * (1 - shares[0]), 0.01) / len(y))


def _vote(labels: Tensor) -> Tensor:
    return torch.mode(labels, dim=1).values
