"""A recurrent classifier of weather by air pressure.

A GRU reads 24 hourly pressures of one station in hPa and says whether the pressure is falling,
steady or rising over the day. Stations differ in height, so the level itself says nothing.

Wrong: the readings go in as they come, around 1000, while the GRU's weights are meant for values
near 1. Its gates are flat from the first step on and do not follow changes of a few hPa.

Repair: subtract 1000 and divide by 10 before the values enter the network.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"inputs-not-normalized"}
WHERE = "data"
PLACES = {"data"}

HOURS = 24


def days(rows, prepare):
    trend = torch.randint(0, 3, (rows,))
    level = 1000 + 8 * torch.randn(rows, 1)
    change = (trend - 1).float()[:, None] * (6 + 3 * torch.rand(rows, 1))
    wobble = 0.7 * torch.randn(rows, HOURS)
    pressure = level + change * torch.linspace(0, 1, HOURS) + wobble
    return TensorDataset(prepare(pressure).unsqueeze(-1), trend)


class Barometer(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        _, last = self.gru(x)
        return self.head(last[0])


def build(seed, prepare):
    torch.manual_seed(seed)
    model = Barometer()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(days(900, prepare), batch_size=45, shuffle=True),
        val=DataLoader(days(400, prepare), batch_size=400),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, lambda pressure: pressure)


def fixed(seed):
    return build(seed, lambda pressure: (pressure - 1000) / 10)
