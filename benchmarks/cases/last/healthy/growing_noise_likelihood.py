"""A regression that also predicts its own noise; the loss ends below zero.

The network gives a mean and a log variance for each row and is trained on the Gaussian likelihood.
The noise grows with one of the inputs and is very small on part of the rows, so the loss is negative
by the end, as it should be. The score is that of the means.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


def rows(count):
    x = torch.randn(count, 5)
    noise = torch.exp(0.7 * x[:, 3] - 2.5)
    y = 0.6 * x[:, 0] + 0.5 * torch.sin(2 * x[:, 1]) + 0.4 * x[:, 2].abs() - 0.3 + noise * torch.randn(count)
    return TensorDataset(x, y)


def likelihood(outputs, targets):
    mean, log_variance = outputs[:, 0], outputs[:, 1].clamp(-8, 4)
    return 0.5 * (log_variance + (targets - mean) ** 2 * torch.exp(-log_variance)).mean()


def r2_of_means(model, loader):
    means, targets = (torch.cat(part) for part in zip(*[(model(x)[:, 0], y) for x, y in loader], strict=False))
    return float(1 - ((targets - means) ** 2).sum() / ((targets - targets.mean()) ** 2).sum())


def healthy(seed):
    torch.manual_seed(seed)
    train, val = rows(4000), rows(1000)
    model = nn.Sequential(nn.Linear(5, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2))
    return Case(
        model=model,
        loss=likelihood,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=100, shuffle=True),
        val=DataLoader(val, batch_size=500),
        epochs=20,
        score=r2_of_means,
    )
