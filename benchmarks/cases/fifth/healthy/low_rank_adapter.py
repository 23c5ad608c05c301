"""A trained network adapted to turned images by small additions.

A classifier is first fitted to upright digits. All of it is then frozen, and each linear layer gets
a low-rank addition: a random matrix down to eight numbers and a zero matrix up again, so that the
adapted network starts as the old one. Only the additions are given to the optimizer; the new data
are the digits turned by a quarter.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


class Adapted(nn.Module):
    def __init__(self, base, rank=8):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def fitted(x, y):
    """A network trained on the upright digits."""
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    base = fitted(x[train], y[train])
    model = nn.Sequential(*[Adapted(layer) if isinstance(layer, nn.Linear) else layer for layer in base])
    turned = x.reshape(-1, 8, 8).rot90(1, (1, 2)).flatten(1)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.005),
        train=DataLoader(TensorDataset(turned[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(turned[val], y[val]), batch_size=500),
        epochs=15,
        score=accuracy,
    )
