"""A twin convolutional network that answers with its average.

Two small pictures show the same digit or not; both pass one encoder, and the answer depends on the absolute
difference of their codes. The model holds a frozen copy of the encoder and head, which follows
the trained ones slowly and answers outside training. Its buffers are copied as they are.
"""

import copy

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.85


def pairs(images, labels, rows):
    first = torch.randint(0, len(images), (rows,))
    second = torch.randint(0, len(images), (rows,))
    for row in range(0, rows, 2):
        same = (labels == labels[first[row]]).nonzero().flatten()
        second[row] = same[torch.randint(0, len(same), (1,))]
    return TensorDataset(torch.stack([images[first], images[second]], dim=1), (labels[first] == labels[second]).long())


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 24),
        )
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        first, second = self.encoder(x.flatten(0, 1)).unflatten(0, (len(x), 2)).unbind(dim=1)
        return self.head((first - second).abs())


class Averaged(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(False)

    def forward(self, x):
        return self.network(x) if self.training else self.average(x)


def step(case, batch):
    images, same = batch
    case.model.train()
    case.optimizer.zero_grad()
    loss = case.loss(case.model(images), same)
    loss.backward()
    case.optimizer.step()
    with torch.no_grad():
        for old, new in zip(case.model.average.parameters(), case.model.network.parameters(), strict=False):
            old.lerp_(new, 0.05)
        for old, new in zip(case.model.average.buffers(), case.model.network.buffers(), strict=False):
            old.copy_(new)
    return loss.detach()


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = Averaged(Twins())
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.network.parameters(), lr=0.003),
        train=DataLoader(pairs(x[train], y[train], 1400), batch_size=40, shuffle=True),
        val=DataLoader(pairs(x[val], y[val], 500), batch_size=250),
        epochs=12,
        score=accuracy,
        step=step,
    )
