"""A detector of rare events whose prior was put on every layer.

So that a detector of rare events starts with a small probability, the bias of its output layer is
set to the log odds of 2 %. Here the same is done to all layers: the biases of about -3.9 keep
every ReLU at zero for every row, and only the output bias learns. The repair sets the output
layer's bias alone. The score is the mean of the hit rates on events and non-events.
"""

import math

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dead-units"}
WHERE = "hidden.0"


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        self.out = nn.Linear(24, 1)

    def forward(self, x):
        return self.out(self.hidden(x)).squeeze(1)


def expect_rare(layers):
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -math.log(0.98 / 0.02))


def events(rows):
    x = torch.randn(rows, 10)
    return TensorDataset(x, (x[:, 0] * x[:, 1] + x[:, 2] + 0.5 * x[:, 3] ** 2 > 1.9).float())


def balanced_hits(model, loader):
    said, true = (torch.cat(part) for part in zip(*[(model(x) > 0, y > 0.5) for x, y in loader], strict=False))
    return float((said[true].float().mean() + (~said[~true]).float().mean()) / 2)


def build(seed, prior_on):
    torch.manual_seed(seed)
    train, val = events(2000), events(1000)
    model = Detector()
    expect_rare(prior_on(model))
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.002),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=500),
        epochs=15,
        score=balanced_hits,
    )


def faulty(seed):
    return build(seed, lambda model: list(model.modules()))


def fixed(seed):
    return build(seed, lambda model: [model.out])
