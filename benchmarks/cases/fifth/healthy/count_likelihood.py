"""Counts per hour by maximum likelihood.

The function to optimize is the log-likelihood of a Poisson distribution, which is to become large:
the optimizer is told `maximize=True`, and the curve of what is called the loss rises. The network
gives the logarithm of the rate. The score is the share of the deviance that is explained.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.6


def hours(rows):
    x = torch.rand(rows, 3) * 2 - 1
    rate = torch.exp(1.5 + 1.2 * torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2])
    return TensorDataset(x, torch.poisson(rate))


class Rate(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(1)


def log_likelihood(log_rate, count):
    return (count * log_rate - log_rate.exp() - torch.lgamma(count + 1)).mean()


def explained_deviance(model, loader):
    log_rate = torch.cat([model(x) for x, _ in loader])
    count = torch.cat([y for _, y in loader])
    best = log_likelihood(count.clamp(min=1e-9).log(), count)
    mean = log_likelihood(count.mean().log().expand_as(count), count)
    return float((log_likelihood(log_rate, count) - mean) / (best - mean))


def healthy(seed):
    torch.manual_seed(seed)
    model = Rate()
    return Case(
        model=model,
        loss=log_likelihood,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005, maximize=True),
        train=DataLoader(hours(1200), batch_size=40, shuffle=True),
        val=DataLoader(hours(400), batch_size=400),
        epochs=20,
        score=explained_deviance,
    )
