"""A detector of the digit 8 with the "prior" bias in all its layers.

One image in ten is an 8. For rare positives the last layer's bias may be started at -log((1 - p) / p), so
that the first predictions are near p = 0.01. Here the loop that does so goes over all modules: every
convolution and hidden layer starts with a bias of -4.6 too, behind which a ReLU never opens, and nothing but
the last bias learns. The repair sets the bias of the last layer only. The score is the F1 of the eights.
"""

import math

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dead-units"}
WHERE = "conv1"

PRIOR = 0.01


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.hidden = nn.Linear(24 * 4 * 4, 32)
        self.logit = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.hidden(x.flatten(1)))
        return self.logit(x).squeeze(1)


def prior_bias(modules):
    for module in modules:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.bias, -math.log((1 - PRIOR) / PRIOR))


def f1(model, loader):
    found = torch.cat([model(x) > 0 for x, _ in loader])
    true = torch.cat([y > 0.5 for _, y in loader])
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def build(seed, model):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(y == 8, dtype=torch.float32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1200], order[1200:]
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=597),
        epochs=12,
        score=f1,
    )


def faulty(seed):
    torch.manual_seed(seed)
    model = Detector()
    prior_bias(model.modules())
    return build(seed, model)


def fixed(seed):
    torch.manual_seed(seed)
    model = Detector()
    prior_bias([model.logit])
    return build(seed, model)
