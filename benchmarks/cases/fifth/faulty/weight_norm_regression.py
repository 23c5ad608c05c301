"""Regression with weight normalization.

A network with two hidden layers predicts a smooth function of ten inputs. Each layer's weight is
written as a length and a direction (weight normalization).

Wrong: the optimizer is made first and the weights are rewritten afterwards. Rewriting replaces the
weights by new parameters, which the optimizer does not know; it goes on holding the old ones, that
no layer uses any more. Only the biases learn.

Repair: make the optimizer after the weights have been rewritten.
"""

import torch
from case import Case, r2
from sklearn.datasets import make_friedman1
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"parameters-not-trained"}
WHERE = "optimizer"
PLACES = {"optimizer"}


def table(seed):
    x, y = make_friedman1(1300, noise=0.5, random_state=seed)
    x, y = torch.tensor(x, dtype=torch.float32) * 2 - 1, torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    y = (y - y[:1000].mean()) / y[:1000].std()
    return TensorDataset(x[:1000], y[:1000]), TensorDataset(x[1000:], y[1000:])


def rewrite(model):
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight_norm(layer)


def build(seed, optimizer_first):
    torch.manual_seed(seed)
    train, val = table(seed)
    model = nn.Sequential(nn.Linear(10, 40), nn.GELU(), nn.Linear(40, 40), nn.GELU(), nn.Linear(40, 1))
    if optimizer_first:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.004)
        rewrite(model)
    else:
        rewrite(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.004)
    return Case(
        model=model,
        loss=nn.SmoothL1Loss(),
        optimizer=optimizer,
        train=DataLoader(train, batch_size=40, shuffle=True),
        val=DataLoader(val, batch_size=300),
        epochs=15,
        score=r2,
    )


def faulty(seed):
    return build(seed, optimizer_first=True)


def fixed(seed):
    return build(seed, optimizer_first=False)
