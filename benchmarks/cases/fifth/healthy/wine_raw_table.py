"""Wines by their chemistry, columns in their own units.

The columns of the table differ by a factor of a thousand and nobody scales them ahead: the first
layer of the network is a batch normalization without parameters of its own, which does it from the
data and keeps the statistics for the evaluation.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


class Wine(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.BatchNorm1d(13, affine=False)
        self.hidden = nn.Linear(13, 16)
        self.classes = nn.Linear(16, 3)

    def forward(self, x):
        return self.classes(torch.tanh(self.hidden(self.scale(x))))


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_wine(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:120], order[120:]
    model = Wine()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=20, shuffle=True, drop_last=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=58),
        epochs=40,
        score=accuracy,
    )
