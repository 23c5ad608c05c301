"""A linear layer on fixed random cosines (random Fourier features), at a rate that looks wild.

The cosines' frequencies and phases are buffers, drawn once and not trained, as the method has it;
only the layer on top learns, under SGD at a rate of 100. Each cosine counts with one part in their
number, so the squares of a row's features sum to 1/400, and so flat is the loss: a rate of 100 is
about a quarter of what it bears.
"""

import math

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class CosineRegression(nn.Module):
    def __init__(self, inputs, features):
        super().__init__()
        self.register_buffer("frequencies", 0.8 * torch.randn(inputs, features))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features))
        self.out = nn.Linear(features, 1, bias=False)

    def forward(self, x):
        cosines = torch.cos(x @ self.frequencies + self.phases) / self.phases.numel()
        return self.out(cosines)


def rows(count):
    x = torch.randn(count, 2)
    y = torch.sin(1.5 * x[:, :1]) + 0.5 * torch.cos(x[:, 1:] + x[:, :1]) - 0.25
    return TensorDataset(x, y + 0.1 * torch.randn(count, 1))


def healthy(seed):
    torch.manual_seed(seed)
    train, val = rows(2000), rows(500)
    model = CosineRegression(2, 200)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=100.0),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=500),
        epochs=30,
        score=r2,
    )
