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

    Rows of whole numbers are compared as counts of symbols, once whatever their column and once with it; the better
    one counts.

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
    x, y = inputs[chosen].flatten(1), labels[chosen].long()
    y = y.unique(return_inverse=True)[1]
    permuted = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed + 1)).to(y.device)]
    forms = [_scaled(x)] if inputs.is_floating_point() else [_symbols(x), _symbols(x + _columns(x))]
    share, chance = max(tuple(_share(form, each) for each in (y, permuted)) for form in forms)
    return share, chance, math.sqrt(max(share * (1 - share), 0.01) / len(y))


def agreeing(inputs: Tensor, labels: Tensor) -> Tensor:
    """Which rows have the label that is the commonest among their neighbours (Wilson 1972, section III)."""
    x = inputs.flatten(1)
    return _votes(_scaled(x) if inputs.is_floating_point() else _symbols(x), labels) == labels


def _share(x: Tensor, labels: Tensor) -> float:
    return float((_votes(x, labels) == labels).double().mean())


def _votes(x: Tensor, labels: Tensor) -> Tensor:
    distances = torch.cdist(x, x)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBOURS, len(x) - 1), largest=False).indices
    return torch.mode(labels[nearest], dim=1).values


def _scaled(x: Tensor) -> Tensor:
    x = torch.nan_to_num(x.double(), nan=0.0, posinf=0.0, neginf=0.0)
    std = x.std(0)
    # Columns that hardly vary are not blown up: their deviation counts as a tenth of the typical one at least.
    return (x - x.mean(0)) / std.clamp_min(0.1 * float(std.median()) + 1e-12)


def _symbols(x: Tensor) -> Tensor:
    """How often each symbol is in a row, a rare one for more (Salton & Buckley 1988), scaled to length 1."""
    values = x.unique(return_inverse=True)[1]
    counts = torch.zeros(len(x), int(values.max()) + 1, dtype=torch.float64, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values, dtype=counts.dtype))
    weighted: Tensor = counts.log1p() * (len(x) / (counts > 0).sum(0)).log()
    length = weighted.square().sum(1, keepdim=True).sqrt()
    return weighted / length.clamp_min(1e-12)


def _columns(x: Tensor) -> Tensor:
    """Added to whole numbers, it makes those of each column symbols of their own, as in a table."""
    return torch.arange(x.shape[1], device=x.device) * (int(x.max()) - int(x.min()) + 1)
