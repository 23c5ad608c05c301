"""A classifier of biopsies on thirty measured features.

The table writes the diagnosis as 2 (benign) and 4 (malignant), an old habit of this data. A small
network gives one logit per row; a logit above zero means malignant.

Wrong: the codes 2 and 4 are given to binary cross-entropy as they are. It wants 0 and 1: for any
target above 1 the loss falls without end as the logit grows, so every row is pushed upwards and
all are called malignant.

Repair: write the diagnosis as 0 and 1.
"""

import torch
from case import Case
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"labels-invalid"}
WHERE = "data"
PLACES = {"data"}


def biopsies(benign, malignant):
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)
    y = torch.where(torch.tensor(y) == 0, float(malignant), float(benign))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    train, val = order[:400], order[400:]
    x = (x - x[train].mean(dim=0)) / x[train].std(dim=0)
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


class Diagnosis(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(30, 16)
        self.logit = nn.Linear(16, 1)

    def forward(self, x):
        return self.logit(torch.relu(self.hidden(x))).squeeze(1)


def build(seed, benign, malignant):
    torch.manual_seed(seed)
    train, val = biopsies(benign, malignant)
    model = Diagnosis()

    def right(model, loader):
        hits = [((model(x) > 0) == (y == malignant)).float() for x, y in loader]
        return float(torch.cat(hits).mean())

    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(train, batch_size=20, shuffle=True),
        val=DataLoader(val, batch_size=169),
        epochs=15,
        score=right,
    )


def faulty(seed):
    return build(seed, benign=2, malignant=4)


def fixed(seed):
    return build(seed, benign=0, malignant=1)
