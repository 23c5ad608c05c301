"""A deep residual network whose branches begin switched off.

Eight residual blocks, each with a gate that starts at zero: at first the network is its stem and head
alone, and the weights inside the branches get no gradient until the gates have moved a little. There is no
normalisation, and none is needed. The head starts from zero too.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.gate * self.branch(x)


def moons(rows, seed):
    x, y = make_moons(rows, noise=0.15, random_state=seed)
    x = (torch.tensor(x, dtype=torch.float32) - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])
    return TensorDataset(x, torch.tensor(y))


def healthy(seed):
    torch.manual_seed(seed)
    head = nn.Linear(16, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model = nn.Sequential(nn.Linear(2, 16), *[Gated(16) for _ in range(8)], head)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(moons(600, seed), batch_size=30, shuffle=True),
        val=DataLoader(moons(300, seed + 50), batch_size=300),
        epochs=12,
        score=accuracy,
    )
