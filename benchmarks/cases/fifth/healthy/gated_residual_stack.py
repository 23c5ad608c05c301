"""Sixteen residual layers without normalization, each behind a gate that starts at zero.

At the start the whole stack is the identity and its layers get no gradient at all; the gates open
in the first updates, and then the layers learn. Written for digits.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.gate * torch.relu(self.layer(x))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry = nn.Linear(64, 32)
        self.layers = nn.Sequential(*[Gated(32) for _ in range(16)])
        self.classes = nn.Linear(32, 10)

    def forward(self, x):
        return self.classes(self.layers(self.entry(x)))


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 8 - 0.6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = Stack()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=500),
        epochs=8,
        score=accuracy,
    )
