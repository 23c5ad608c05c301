"""An initialization helper that leaves the spread of the normal distribution at its default.

`init_weights` calls `nn.init.normal_(layer.weight)` without a `std`, so every weight of the five
linear layers has a spread of one: each layer multiplies the signal by about eight, and the first
logits lie in the ten thousands. The repair is `kaiming_normal_`.
"""

import itertools

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"init-too-large"}
WHERE = "layers.0"


def init_weights(layer):
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight)
        nn.init.zeros_(layer.bias)


def init_weights_kaiming(layer):
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [64, 128, 128, 128, 128]
        layers = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(128, 10)

    def forward(self, x):
        return self.out(self.layers(x))


def build(seed, init):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32) - 4.9) / 6, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    train, val = order[:1200], order[1200:]
    model = Net().apply(init)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=64, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=200),
        epochs=8,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, init_weights)


def fixed(seed):
    return build(seed, init_weights_kaiming)
