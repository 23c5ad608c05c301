"""A quantity that its inputs hardly determine.

Daily demand depends on ten standardized inputs, two of them through a kink, but three quarters of
its variance is noise: a coefficient of determination near 0.24 is all there is to reach. The
network is small, the data plentiful, and training ends before it learns the noise.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.16


def days(rows):
    x = torch.randn(rows, 10)
    signal = 0.6 * x[:, 0] - 0.4 * x[:, 1] + 0.7 * x[:, 2].abs() - 0.5 * x[:, 3].clamp(min=0) - 0.36
    return TensorDataset(x, (0.57 * signal + 0.866 * torch.randn(rows))[:, None])


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 16), nn.SiLU(), nn.Linear(16, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01),
        train=DataLoader(days(6000), batch_size=100, shuffle=True),
        val=DataLoader(days(2000), batch_size=1000),
        epochs=9,
        score=r2,
    )
