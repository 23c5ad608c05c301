"""Small data sets with something to learn, and the recipes that the tests train on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from levelhead.data import Dataset, Split, Task
from levelhead.training import Recipe


def _split(name: str, task: Task, inputs: Tensor, targets: Tensor, names: tuple[str, ...]) -> Dataset:
    parts = [Split(inputs[a:b], targets[a:b]) for a, b in ((0, 150), (150, 200), (200, 260))]
    features = tuple(f"column {i}" for i in range(inputs.shape[1]))
    return Dataset(name, "made for the tests", task, *parts, classes=names, features=features, notes=())


def classes(shape: tuple[int, ...] = (6,), seed: int = 0) -> Dataset:
    """Three classes, told apart by which third of a row has the largest mean."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(260, *shape, generator=random)
    thirds = torch.stack([part.mean(1) for part in inputs.flatten(1).tensor_split(3, 1)], 1)
    return _split("classes", "classification", inputs, thirds.argmax(1), ("a", "b", "c"))


def images() -> Dataset:
    return classes((1, 6, 6))


def numbers() -> Dataset:
    """Two columns, linear in the row, with a little noise."""
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(260, 4, generator=random)
    targets = inputs @ torch.randn(4, 2, generator=random) + 0.1 * torch.randn(260, 2, generator=random)
    return _split("numbers", "regression", inputs, targets, ())


def small(**changes: Any) -> Recipe:
    """A recipe that trains in a moment."""
    start = {"width": 16, "depth": 2, "batch_size": 20, "steps": 60, "evaluate_every": 20, "checkpoint_every": 15}
    return Recipe.from_dict({**start, **changes})


#: Every kind of state that a run has: running statistics, two moments a parameter, velocity, noise.
STATEFUL = {
    "batch norm, adam, dropout": {"normalization": "batch", "optimizer": "adam", "dropout": 0.3, "learning_rate": 0.01},
    "sgd with momentum and decay": {"momentum": 0.9, "weight_decay": 1e-3, "learning_rate": 0.05},
    "rmsprop with momentum": {"optimizer": "rmsprop", "momentum": 0.5, "learning_rate": 1e-3, "normalization": "layer"},
    "convnet": {"network": "convnet", "width": 4, "normalization": "batch", "optimizer": "adamw", "dropout": 0.1},
}
