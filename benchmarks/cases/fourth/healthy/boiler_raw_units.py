"""A boiler's heat in its own units.

The inputs are pressures near 100000, temperatures near 300 and a flow near 0.001, the target is a heat
of some hundred thousand watts, and the loader yields them as they were measured. The model carries the means
and deviations of the training data as buffers: it scales its inputs on the way in and its output on the way
out, and the loss is divided by the target's variance.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.95


def readings(rows):
    pressure = 101_000 + 2_000 * torch.randn(rows)
    warm, cold = 340 + 12 * torch.rand(rows), 290 + 8 * torch.rand(rows)
    flow = 0.001 + 0.0003 * torch.rand(rows)
    heat = 4.2e6 * flow * (warm - cold) * (1 + 0.1 * torch.sin(pressure / 1_000))
    return torch.stack([pressure, warm, cold, flow], dim=1), heat[:, None] + 2_000 * torch.randn(rows, 1)


class Boiler(nn.Module):
    def __init__(self, x, y):
        super().__init__()
        for name, value in (("x_mean", x.mean(0)), ("x_std", x.std(0)), ("y_mean", y.mean(0)), ("y_std", y.std(0))):
            self.register_buffer(name, value)
        self.body = nn.Sequential(nn.Linear(4, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1))

    def forward(self, x):
        return self.y_mean + self.y_std * self.body((x - self.x_mean) / self.x_std)


def healthy(seed):
    torch.manual_seed(seed)
    x, y = readings(1000)
    model = Boiler(x, y)
    variance = y.var()

    def relative_error(outputs, targets):
        return ((outputs - targets) ** 2).mean() / variance

    return Case(
        model=model,
        loss=relative_error,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(TensorDataset(x, y), batch_size=25, shuffle=True),
        val=DataLoader(TensorDataset(*readings(300)), batch_size=300),
        epochs=25,
        score=r2,
    )
