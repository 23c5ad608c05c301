"""A convolutional digit classifier with dropout in functional style.

The head drops half of its values twice with `F.dropout`, which does not know the mode of the model and
is on unless told otherwise: `model.eval()` changes nothing, and the validation images are judged with
most of the features missing. The repair passes `training=self.training`.
"""

import torch
import torch.nn.functional as F
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-mode-in-eval"}
WHERE = "head"
PLACES = {"head"}


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1200], order[1200:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


class Head(nn.Module):
    def __init__(self, inputs, classes, always):
        super().__init__()
        self.hidden = nn.Linear(inputs, 24)
        self.out = nn.Linear(24, classes)
        self.always = always

    def drop(self, x):
        return F.dropout(x, 0.5) if self.always else F.dropout(x, 0.5, training=self.training)

    def forward(self, x):
        x = F.relu(self.hidden(self.drop(x)))
        return self.out(self.drop(x))


class Net(nn.Module):
    def __init__(self, always):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.head = Head(12 * 4, 10, always)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(x.flatten(1))


def build(seed, always):
    torch.manual_seed(seed)
    model = Net(always)
    train, val = digits()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(train, batch_size=32, shuffle=True),
        val=DataLoader(val, batch_size=200),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, always=True)


def fixed(seed):
    return build(seed, always=False)
