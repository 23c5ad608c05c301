"""The difference between two objects, from a twin encoder.

Both objects of a pair go through the same encoder; the output is how much more the first one is
worth. The model gives one number a pair, [N], the data set holds a column, [N, 1], and the loss is
a log-cosh of its own that subtracts the one from the other: it compares every pair with the target of
every other pair, and the mean of the targets is the best answer. The repair gives both one shape.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-broadcast"}
WHERE = "loss"
PLACES = {"loss"}


def pairs(rows):
    x = torch.randn(rows, 2, 10)
    worth = x[..., 0] * x[..., 1] + torch.sin(2 * x[..., 2]) + 0.5 * x[..., 3]
    difference = worth[:, :1] - worth[:, 1:]
    return TensorDataset(x, difference / 1.9)


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU())
        self.worth = nn.Linear(32, 1)

    def forward(self, x):
        first, second = self.worth(self.encoder(x)).squeeze(2).unbind(dim=1)
        return first - second


def log_cosh(outputs, targets):
    error = outputs - targets
    return (error + nn.functional.softplus(-2 * error) - 0.6931).mean()


def log_cosh_by_pair(outputs, targets):
    return log_cosh(outputs, targets.flatten())


def build(seed, loss):
    torch.manual_seed(seed)
    model = Twins()
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(pairs(1500), batch_size=50, shuffle=True),
        val=DataLoader(pairs(500), batch_size=250),
        epochs=20,
        score=r2,
    )


def faulty(seed):
    return build(seed, log_cosh)


def fixed(seed):
    return build(seed, log_cosh_by_pair)
