"""Two linear layers with nothing between them, because the relation is linear and of low rank.

Thirty sensors drive twelve quantities through three hidden causes. A linear layer to three values
and one from there say exactly that with few weights (reduced-rank regression); a nonlinearity would
only be in the way. Targets carry some noise.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


def healthy(seed):
    torch.manual_seed(seed)
    down, up = torch.randn(30, 3) / 30**0.5, torch.randn(3, 12) / 3**0.5
    x = torch.randn(1600, 30)
    y = x @ down @ up + 0.2 * torch.randn(1600, 12)
    model = nn.Sequential(nn.Linear(30, 3, bias=False), nn.Linear(3, 12))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9),
        train=DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[1200:], y[1200:]), batch_size=200),
        epochs=20,
        score=r2,
    )
