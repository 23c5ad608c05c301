"""Wines in raw units under a heavy weight decay: two faults.

The columns of the wine data reach from a fraction to more than a thousand (proline) and go into
the network as they are, and the weight decay of 0.3 pulls the weights to zero faster than the loss
can raise them. Either alone spoils the training. The repair standardizes the columns with the
training rows' means and deviations and lowers the decay to 0.0003.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"inputs-not-normalized", "penalty-too-strong"}
WHERE = "data"


def build(seed, standardize, decay):
    torch.manual_seed(seed)
    x, y = load_wine(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:78], order[78:]
    if standardize:
        x = (x - x[train].mean(dim=0)) / x[train].std(dim=0)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=decay),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=13, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=100),
        epochs=40,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, False, 0.3)


def fixed(seed):
    return build(seed, True, 0.0003)
