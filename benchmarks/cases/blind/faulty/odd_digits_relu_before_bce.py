"""A convnet for "is the digit odd?" with a ReLU after its last layer.

The author's blocks each end in a ReLU, the last one too, and its output goes into
`BCEWithLogitsLoss`. The logit can then not fall below 0: "even" is never said with more than
probability one half, and once the last unit's value is negative it passes no gradient at all.
The repair takes away the last ReLU.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"output-mismatch"}
WHERE = "head.3"


class OddNet(nn.Module):
    def __init__(self, last_relu):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        blocks = [nn.Linear(24 * 2 * 2, 32), nn.ReLU(), nn.Linear(32, 1)]
        if last_relu:
            blocks.append(nn.ReLU())
        self.head = nn.Sequential(*blocks)

    def forward(self, x):
        return self.head(self.features(x).flatten(1)).squeeze(1)


def odd_digits(seed):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(y % 2, dtype=torch.float32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1300], order[1300:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


def binary_accuracy(model, loader):
    """Share of rows on the right side of probability one half."""
    right = [(torch.sigmoid(model(x)) > 0.5) == (y > 0.5) for x, y in loader]
    return float(torch.cat(right).float().mean())


def build(seed, last_relu):
    torch.manual_seed(seed)
    model = OddNet(last_relu)
    train, val = odd_digits(seed)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=497),
        epochs=10,
        score=binary_accuracy,
    )


def faulty(seed):
    return build(seed, last_relu=True)


def fixed(seed):
    return build(seed, last_relu=False)
