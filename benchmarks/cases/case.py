"""What the cases of this folder share: the program's fields, data, and scores."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from levelhead.doctor.program import standard_evaluate, standard_step

__all__ = [
    "Case",
    "accuracy",
    "classifier",
    "loaders",
    "mlp",
    "r2",
    "standard_evaluate",
    "standard_step",
    "table",
]


@dataclass
class Case:
    """One training program: what ``levelhead.examine`` is given."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    train: DataLoader
    val: DataLoader
    epochs: int
    score: Callable[[nn.Module, DataLoader], float]
    step: Callable[[Case, Any], Tensor] | None = None
    evaluate: Callable[[Case], float] | None = None


def accuracy(model, loader):
    """Share of rows whose largest output is the target class."""
    hits = rows = 0
    for x, y in loader:
        hits += int((model(x).argmax(1) == y).sum())
        rows += len(y)
    return hits / rows


def r2(model, loader):
    """Coefficient of determination; minus infinity of outputs that are not finite."""
    outputs, targets = zip(*[(model(x), y) for x, y in loader], strict=True)
    p, y = torch.cat(outputs).flatten().double(), torch.cat(targets).flatten().double()
    if p.numel() != y.numel() or not torch.isfinite(p).all():
        return float("-inf")
    return float(1 - (y - p).square().sum() / (y - y.mean()).square().sum())


def table(name, standardized=True):
    """Train and validation rows of one of scikit-learn's data sets, three to one."""
    found = getattr(datasets, f"load_{name}")()
    x = torch.tensor(found.data, dtype=torch.float32)
    y = torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    cut = 3 * len(x) // 4
    train, val = order[:cut], order[cut:]
    if standardized:
        x = (x - x[train].mean(0)) / x[train].std(0).clamp(min=1e-6)
    return (x[train], y[train]), (x[val], y[val])


def loaders(train, val, batch=32, shuffle=True):
    """A loader of each."""
    rows = DataLoader(TensorDataset(*train), batch_size=batch, shuffle=shuffle)
    return rows, DataLoader(TensorDataset(*val), batch_size=512)


def mlp(*widths, activation=nn.ReLU):
    """Linear layers with an activation between them."""
    layers = []
    for ins, outs in itertools.pairwise(widths):
        layers += [nn.Linear(ins, outs), activation()]
    return nn.Sequential(*layers[:-1])


def classifier(model, train, val, *, lr=1e-3, epochs=15, optimizer=None, loss=None, batch=32, shuffle=True, **others):
    """Cross-entropy and Adam, unless said otherwise."""
    a, b = loaders(train, val, batch, shuffle)
    made = optimizer or torch.optim.Adam(model.parameters(), lr=lr)
    return Case(model, loss or nn.CrossEntropyLoss(), made, a, b, epochs, accuracy, **others)
