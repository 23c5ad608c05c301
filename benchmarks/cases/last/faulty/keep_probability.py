"""An MLP ported from a library where dropout is given as the share to keep.

`nn.Dropout(0.9)` stands where the original kept nine units of ten; here it drops nine of ten, after
each of three hidden layers, and the network cannot fit even the training digits. The repair
is `nn.Dropout(0.1)`.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dropout-too-strong"}
WHERE = "layers.2"


class Classifier(nn.Module):
    def __init__(self, p):
        super().__init__()
        layers, width = [], 64
        for hidden in (96, 64, 48):
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(p)]
            width = hidden
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.layers(x))


def build(seed, p):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1200], order[1200:]
    model = Classifier(p)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=300),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, 0.9)


def fixed(seed):
    return build(seed, 0.1)
