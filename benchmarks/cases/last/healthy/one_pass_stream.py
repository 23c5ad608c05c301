"""One pass over a stream, in the order in which it came.

Twenty thousand independent rows are read once, unshuffled, in batches of forty, as from a log: no row
is seen twice and the order carries nothing. Hidden units are sigmoids, enough for two layers. The
target holds noise, about a tenth of its variance, that no model can explain.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.85


def stream(rows):
    x = torch.randn(rows, 6)
    y = torch.tanh(x[:, 0] + x[:, 1]) + 0.5 * x[:, 2] - 0.4 * torch.sin(x[:, 3])
    return TensorDataset(x, (y + 0.3 * torch.randn(rows)).unsqueeze(1))


def healthy(seed):
    torch.manual_seed(seed)
    train, val = stream(20000), stream(1000)
    model = nn.Sequential(nn.Linear(6, 32), nn.Sigmoid(), nn.Linear(32, 1))
    return Case(
        model=model,
        loss=nn.HuberLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        train=DataLoader(train, batch_size=40, shuffle=False),
        val=DataLoader(val, batch_size=500),
        epochs=1,
        score=r2,
    )
