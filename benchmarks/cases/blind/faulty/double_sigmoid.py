"""A tumour classifier that applies the sigmoid twice.

The network ends in a sigmoid and is trained with `BCEWithLogitsLoss`, which applies one itself; so
does the prediction, which asks whether the sigmoid of the output exceeds a half. A value between 0
and 1 taken as a logit always means a probability of at least a half: the loss cannot get small and
every tumour is called benign. The repair takes the sigmoid out of the network.
"""

import torch
from case import Case
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"output-mismatch"}
WHERE = "net.5"


class Classifier(nn.Module):
    def __init__(self, sigmoid):
        super().__init__()
        layers = [nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)]
        self.net = nn.Sequential(*layers, *([nn.Sigmoid()] if sigmoid else []))

    def forward(self, x):
        return self.net(x)


def hits(model, loader):
    right = rows = 0
    for x, y in loader:
        predicted = torch.sigmoid(model(x)) > 0.5
        right += int((predicted == (y > 0.5)).sum())
        rows += len(y)
    return right / rows


def build(seed, sigmoid):
    torch.manual_seed(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    train, val = order[:400], order[400:]
    x = (x - x[train].mean(dim=0)) / x[train].std(dim=0)
    model = Classifier(sigmoid)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=20, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=169),
        epochs=12,
        score=hits,
    )


def faulty(seed):
    return build(seed, sigmoid=True)


def fixed(seed):
    return build(seed, sigmoid=False)
