"""A first convnet on images read folder by folder.

The digits come one class after the other, as a reader of one folder per class gives them, and the
training loader was made without `shuffle=True`. Every batch holds one class only (two at the
borders), and an epoch ends with a long run of nines. The repair shuffles the training loader.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"no-shuffle"}
WHERE = "data"


class FirstConvnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(64, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def folders():
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16 - 0.3
    y = torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    parts = []
    for half in (order[:1300], order[1300:]):
        rows = half[torch.argsort(y[half], stable=True)]
        parts.append(TensorDataset(x[rows], y[rows]))
    return parts


def build(seed, shuffle):
    torch.manual_seed(seed)
    train, val = folders()
    model = FirstConvnet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        train=DataLoader(train, batch_size=32, shuffle=shuffle),
        val=DataLoader(val, batch_size=100),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, shuffle=False)


def fixed(seed):
    return build(seed, shuffle=True)
