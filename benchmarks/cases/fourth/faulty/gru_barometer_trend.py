"""A GRU that reads a day of air pressure.

Each row holds 24 hourly readings in hectopascal; the class says whether the pressure falls, stays
or rises in the last hours. The readings go into the GRU as they are, near 1013, so that its gates
are pinned to their ends and hardly see the few hectopascal that matter. The repair subtracts the
mean of the training readings and divides by their deviation, in both loaders.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"inputs-not-normalized"}
WHERE = "data"
PLACES = {"data"}


def days(rows):
    hours = torch.arange(24.0)
    y = torch.randint(0, 3, (rows,))
    slope = (y - 1) * (0.5 + 0.5 * torch.rand(rows))
    bend = 10 + 4 * torch.rand(rows)
    drift = slope[:, None] * (hours - bend[:, None]).clamp(min=0)
    level = 1013 + 4 * torch.randn(rows)
    return level[:, None] + drift + 0.7 * torch.randn(rows, 24), y


class Trend(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 20, batch_first=True)
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        states, _ = self.gru(x[:, :, None])
        return self.head(states[:, -1])


def build(seed, scaled):
    torch.manual_seed(seed)
    model = Trend()
    x, y = days(900)
    val_x, val_y = days(400)
    if scaled:
        mean, deviation = x.mean(), x.std()
        x, val_x = (x - mean) / deviation, (val_x - mean) / deviation
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(val_x, val_y), batch_size=400),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, scaled=False)


def fixed(seed):
    return build(seed, scaled=True)
