"""House prices predicted in dollars by a small network.

Eight standardized columns describe a house (area, rooms, age, ...); the target is its price, about
two hundred thousand with a spread of some tens of thousands. The network starts near zero and
Adam moves every weight by about a thousandth per update, so the predictions never get near the
prices. The repair standardizes the prices with the training rows' mean and spread.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"targets-not-normalized"}
WHERE = "data"


def houses(rows):
    x = torch.randn(rows, 8)
    area, rooms, age, distance, quality = x[:, :5].unbind(dim=1)
    price = 210_000 + 45_000 * area + 12_000 * rooms - 9_000 * age * (age > 0) - 20_000 * distance
    price = price + 15_000 * quality * area + 8_000 * torch.randn(rows)
    return x, price[:, None]


def build(seed, standardize):
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = houses(1600), houses(400)
    if standardize:
        mean, spread = y.mean(), y.std()
        y, y_val = (y - mean) / spread, (y_val - mean) / spread
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train=DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x_val, y_val), batch_size=400),
        epochs=16,
        score=r2,
    )


def faulty(seed):
    return build(seed, standardize=False)


def fixed(seed):
    return build(seed, standardize=True)
