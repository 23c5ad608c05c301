"""A residual network on tumour measurements, some of which are missing.

Four of the training rows hold NaN where a measurement is missing. The update was taught to skip a batch
whose loss is not finite, which saves the weights; but by then the batch normalisation has taken
the NaN into its running mean, and at evaluation every output is NaN. The repair leaves
the incomplete rows out of the training data.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"non-finite-data", "poisoned-running-statistics"}
WHERE = "data"
PLACES = {"data", "norm"}


def tumours(seed, complete):
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), 1 - torch.tensor(y)
    x = (x - x.mean(dim=0)) / x.std(dim=0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:400], order[400:]
    train_x, train_y = x[train], y[train]
    train_x[[20, 110, 230, 370], [3, 17, 8, 3]] = torch.nan
    if complete:
        rows = train_x.isfinite().all(dim=1)
        train_x, train_y = train_x[rows], train_y[rows]
    return TensorDataset(train_x, train_y), TensorDataset(x[val], y[val])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(30, 32)
        self.norm = nn.BatchNorm1d(32)
        self.branch = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(x + self.branch(x))


def careful_step(case, batch):
    x, y = batch
    case.model.train()
    case.optimizer.zero_grad()
    loss = case.loss(case.model(x), y)
    if torch.isfinite(loss):
        loss.backward()
        case.optimizer.step()
    return loss.detach()


def build(seed, complete):
    train, val = tumours(seed, complete)
    torch.manual_seed(seed)
    model = Residual()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(train, batch_size=20, shuffle=True, drop_last=True),
        val=DataLoader(val, batch_size=169),
        epochs=15,
        score=accuracy,
        step=careful_step,
    )


def faulty(seed):
    return build(seed, complete=False)


def fixed(seed):
    return build(seed, complete=True)
