"""Reduced-rank regression: two linear layers with nothing between, and two units in the middle.

Twelve quantities depend on thirty inputs through two hidden directions only, linearly. Two linear
layers with a narrow middle are the model that fits: one linear layer would have four times the
numbers, and a nonlinearity has no place. With 120 training rows the restriction is of use.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.8


class ReducedRank(nn.Module):
    def __init__(self, inputs, rank, outputs):
        super().__init__()
        self.directions = nn.Linear(inputs, rank, bias=False)
        self.loadings = nn.Linear(rank, outputs)

    def forward(self, x):
        return self.loadings(self.directions(x))


def healthy(seed):
    torch.manual_seed(seed)
    down, up = torch.randn(30, 2) / 30**0.5, torch.randn(2, 12)
    x = torch.randn(520, 30)
    y = x @ down @ up + 0.3 * torch.randn(520, 12)
    model = ReducedRank(30, 2, 12)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(TensorDataset(x[:120], y[:120]), batch_size=20, shuffle=True),
        val=DataLoader(TensorDataset(x[120:], y[120:]), batch_size=400),
        epochs=60,
        score=r2,
    )
