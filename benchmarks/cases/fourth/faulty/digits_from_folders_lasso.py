"""A convolutional digit classifier with sorted images and a strong penalty.

The images come one class after the other, as read from ten folders, and the loader keeps that order: each
stretch of batches holds a single digit and the last digits win. Besides, the update adds a
hundredth of the sum of all absolute weights to the loss, which outweighs the cross-entropy. The
repair shuffles the rows and makes the penalty a thousand times smaller.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"no-shuffle", "penalty-too-strong"}
WHERE = "data"
PLACES = {"data", "loop"}


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1200], order[1200:]
    train = train[y[train].argsort(stable=True)]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


def network():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def build(seed, shuffle, penalty):
    torch.manual_seed(seed)
    model = network()
    train, val = digits()

    def step(case, batch):
        images, labels = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(images), labels)
        loss = loss + penalty * sum(parameter.abs().sum() for parameter in case.model.parameters())
        loss.backward()
        case.optimizer.step()
        return loss.detach()

    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=40, shuffle=shuffle),
        val=DataLoader(val, batch_size=200),
        epochs=12,
        score=accuracy,
        step=step,
    )


def faulty(seed):
    return build(seed, shuffle=False, penalty=0.01)


def fixed(seed):
    return build(seed, shuffle=True, penalty=0.00001)
