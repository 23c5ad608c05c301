"""A network on sets that predicts their range.

A row is a set of ten numbers. Each number goes through the same layers (`each`), the results are
averaged, and further layers (`whole`) turn the average into the predicted distance between the
largest and the smallest number.

Wrong: there is nothing between the linear layers. All of it together is one linear map of the
mean of the set, and the mean says nothing about the range.

Repair: a ReLU after each linear layer but the last.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"missing-nonlinearity"}
WHERE = "each.0"
PLACES = {"each.0", "each.2", "each", "whole.0", "whole"}


def sets(rows):
    points = torch.randn(rows, 10) * (0.3 + torch.rand(rows, 1)) + torch.randn(rows, 1)
    spread = points.max(dim=1).values - points.min(dim=1).values
    return TensorDataset(points.unsqueeze(2), (spread.unsqueeze(1) - 2.4) / 1.1)


class SetNet(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.each = nn.Sequential(nn.Linear(1, 32), between(), nn.Linear(32, 32), between())
        self.whole = nn.Sequential(nn.Linear(32, 32), between(), nn.Linear(32, 1))

    def forward(self, x):
        return self.whole(self.each(x).mean(dim=1))


def build(seed, between):
    torch.manual_seed(seed)
    model = SetNet(between)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(sets(1200), batch_size=40, shuffle=True),
        val=DataLoader(sets(400), batch_size=400),
        epochs=15,
        score=r2,
    )


def faulty(seed):
    return build(seed, nn.Identity)


def fixed(seed):
    return build(seed, nn.ReLU)
