"""A classifier with one hidden tanh layer, by plain SGD with a rate of 0.5.

The pixels lie in 0..1 and are not standardized; most are near 0. For so small a network without momentum a
rate of one half is what works best: at 0.05 it is still learning when the epochs are over.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.94


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1300], order[1300:]
    model = nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10))
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=497),
        epochs=25,
        score=accuracy,
    )
