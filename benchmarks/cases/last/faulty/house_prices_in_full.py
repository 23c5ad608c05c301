"""House prices in full under a Huber loss.

An MLP predicts prices of some hundred thousand from eight standardized features. Beyond an error
of 1 the Huber loss has a slope of 1 whatever the error, and the output starts near 0: with steps
of about 0.003 it would take millions of updates to climb to the prices. The repair standardizes
the prices with the mean and deviation of the training rows.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"targets-not-normalized"}
WHERE = "data"


def houses(rows):
    x = torch.randn(rows, 8)
    worth = 12.3 + 0.3 * x[:, 0] + 0.2 * x[:, 1] * x[:, 2] + 0.15 * x[:, 3].abs() - 0.1 * x[:, 4]
    return x, torch.exp(worth + 0.05 * torch.randn(rows)).unsqueeze(1)


def build(seed, scaled):
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = houses(1500), houses(500)
    if scaled:
        mean, std = y.mean(), y.std()
        y, y_val = (y - mean) / std, (y_val - mean) / std
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    return Case(
        model=model,
        loss=nn.HuberLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x_val, y_val), batch_size=500),
        epochs=20,
        score=r2,
    )


def faulty(seed):
    return build(seed, False)


def fixed(seed):
    return build(seed, True)
