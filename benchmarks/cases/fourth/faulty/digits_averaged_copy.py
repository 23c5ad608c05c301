"""A convolutional network judged by the running average of its weights.

The model holds the network in training and a copy whose weights follow it slowly; outside training
it answers with the copy. The update averages the parameters only. The copy's batch
normalisations keep the mean 0 and variance 1 they were made with, far from the values its layers
see. The repair copies the buffers over as well.
"""

import copy

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"stale-running-statistics"}
WHERE = "average.1"
PLACES = {"average.1", "average.5", "loop"}


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1200], order[1200:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )
        self.average = copy.deepcopy(self.network).requires_grad_(False)

    def forward(self, x):
        return self.network(x) if self.training else self.average(x)


def follow(model, buffers, keep=0.95):
    with torch.no_grad():
        for old, new in zip(model.average.parameters(), model.network.parameters(), strict=False):
            old.lerp_(new, 1 - keep)
        if buffers:
            for old, new in zip(model.average.buffers(), model.network.buffers(), strict=False):
                old.copy_(new)


def build(seed, buffers):
    torch.manual_seed(seed)
    model = Averaged()
    train, val = digits()

    def step(case, batch):
        images, labels = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(images), labels)
        loss.backward()
        case.optimizer.step()
        follow(case.model, buffers)
        return loss.detach()

    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.network.parameters(), lr=0.01),
        train=DataLoader(train, batch_size=40, shuffle=True),
        val=DataLoader(val, batch_size=200),
        epochs=8,
        score=accuracy,
        step=step,
    )


def faulty(seed):
    return build(seed, buffers=False)


def fixed(seed):
    return build(seed, buffers=True)
