"""Predictions averaged over thirty random dropout masks.

The evaluation leaves the model in training mode on purpose: dropout stays on, each row is predicted
thirty times, and the mean is the answer (Monte Carlo dropout; the spread would tell how sure it
is). There is no batch normalization that the mode could disturb.
"""

import torch
from case import Case, r2
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.8


class Average(nn.Module):
    """The mean of several random predictions."""

    def __init__(self, model, times):
        super().__init__()
        self.model, self.times = model, times

    def forward(self, x):
        return torch.stack([self.model(x) for _ in range(self.times)]).mean(dim=0)


def sampled_score(case):
    case.model.train()
    with torch.no_grad():
        return case.score(Average(case.model, 30), case.val)


def healthy(seed):
    torch.manual_seed(seed)
    x, y = make_friedman1(1400, noise=0.5, random_state=seed)
    x, y = torch.tensor(x, dtype=torch.float32) * 2 - 1, torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    y = (y - y[:1000].mean()) / y[:1000].std()
    model = nn.Sequential(
        nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1)
    )
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x[:1000], y[:1000]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[1000:], y[1000:]), batch_size=400),
        epochs=25,
        score=r2,
        evaluate=sampled_score,
    )
