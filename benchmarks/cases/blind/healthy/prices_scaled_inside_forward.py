"""Prices in dollars from raw columns, all scaling done inside the model.

The loaders yield columns in their own units (years, square metres, incomes) and prices of some
hundred thousand. The model keeps the training rows' means and spreads in buffers, standardizes
what comes in and gives its output the prices' offset and spread. The loss is the squared error in
units of the price's variance.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.88


class PriceModel(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        self.register_buffer("x_mean", x.mean(dim=0))
        self.register_buffer("x_spread", x.std(dim=0))
        self.register_buffer("y_mean", y.mean())
        self.register_buffer("y_spread", y.std())
        self.net = nn.Sequential(nn.Linear(6, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 1))

    def forward(self, x):
        return self.y_mean + self.y_spread * self.net((x - self.x_mean) / self.x_spread)


def houses(rows):
    z = torch.randn(rows, 6)
    price = 320_000 + 70_000 * z[:, 0] + 30_000 * z[:, 1] * z[:, 2] - 40_000 * z[:, 3].clamp(min=0)
    price = price + 20_000 * torch.sin(2 * z[:, 4]) + 15_000 * torch.randn(rows)
    units = torch.tensor([35.0, 20.0, 9_000.0, 4.0, 1.0, 150.0])
    offsets = torch.tensor([110.0, 1975.0, 41_000.0, 9.0, 3.0, 800.0])
    return offsets + units * z, price[:, None]


def healthy(seed):
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = houses(2000), houses(500)
    model = PriceModel(x, y)
    variance = float(y.var())
    return Case(
        model=model,
        loss=lambda outputs, targets: nn.functional.mse_loss(outputs, targets) / variance,
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        train=DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x_val, y_val), batch_size=500),
        epochs=15,
        score=r2,
    )
