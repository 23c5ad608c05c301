"""Rain or no rain from the measurements of one day.

Eight measured quantities of different units enter through a batch normalization that brings them
to one scale; a small network follows. Where an instrument failed, the file holds its fill value
9.96921e36, about one time in five hundred.

Wrong: the fill values are read as measurements. Their square is beyond float32, so the running
variance of each column becomes infinite and stays so. Training hardly shows it, as most batches
are free of fill values; at evaluation nearly all columns come out as zero.

Repair: put the column's mean of the good measurements in place of the fill values.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"poisoned-running-statistics", "inputs-not-normalized"}
WHERE = "data"
PLACES = {"data", "scale"}

FILL = 9.96921e36


def measurements(rows, clean):
    z = torch.randn(rows, 8)
    rain = (z[:, 0] * z[:, 1] + z[:, 2] - z[:, 3] + 0.3 * torch.randn(rows) > 0).long()
    centre = torch.tensor([12.0, 8.0, 70.0, 101.0, 5.0, 180.0, 2.0, 40.0])
    width = torch.tensor([7.0, 6.0, 15.0, 1.0, 3.0, 90.0, 1.0, 20.0])
    x = centre + width * z
    failed = torch.rand(rows, 8) < 0.002
    x[failed] = FILL
    if clean:
        good = ~failed
        means = torch.where(good, x, 0.0).sum(dim=0) / good.sum(dim=0)
        x = torch.where(good, x, means)
    return TensorDataset(x, rain)


class Rain(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.BatchNorm1d(8)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        return self.net(self.scale(x))


def build(seed, clean):
    torch.manual_seed(seed)
    model = Rain()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(measurements(1600, clean), batch_size=32, shuffle=True),
        val=DataLoader(measurements(500, clean), batch_size=500),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, clean=False)


def fixed(seed):
    return build(seed, clean=True)
