"""A forecast that also states its own spread.

A GRU reads eight values of a wave and gives two numbers, the next value and the logarithm of its variance.
The loss is the Gaussian negative log likelihood without its constant; it falls below zero as soon as
the forecast is sure of itself. The score looks at the first number only.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


def waves(rows):
    time = torch.arange(9.0)
    speed, phase = 0.4 + 0.5 * torch.rand(rows, 1), 6.3 * torch.rand(rows, 1)
    noise = 0.02 + 0.08 * torch.rand(rows, 1)
    x = torch.sin(speed * time + phase) + noise * torch.randn(rows, 9)
    return TensorDataset(x[:, :8, None], x[:, 8])


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.out = nn.Linear(24, 2)

    def forward(self, x):
        _, state = self.gru(x)
        return self.out(state[-1])


def gaussian(outputs, targets):
    mean, log_variance = outputs.unbind(dim=1)
    log_variance = log_variance.clamp(-10, 10)
    return 0.5 * (log_variance + (targets - mean) ** 2 / log_variance.exp()).mean()


def mean_r2(model, loader):
    x, y = map(torch.cat, zip(*loader, strict=False))
    return float(1 - ((model(x)[:, 0] - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def healthy(seed):
    torch.manual_seed(seed)
    model = Forecast()
    return Case(
        model=model,
        loss=gaussian,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(waves(1000), batch_size=40, shuffle=True),
        val=DataLoader(waves(300), batch_size=300),
        epochs=15,
        score=mean_r2,
    )
