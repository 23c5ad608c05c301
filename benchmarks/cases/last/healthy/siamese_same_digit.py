"""A siamese network that says whether two images show the same digit.

A row is a pair of 8x8 digits, [2, 64]; one encoder reads both and the squared distance of the two
codes, with a learned scale and offset, is the logit. A quarter of the pairs are alike; the loss
weighs them three times, and the score is the mean of the hit rates on like and unlike pairs.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 16))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(1.0))

    def forward(self, pairs):
        codes = self.encoder(pairs)
        distance = ((codes[:, 0] - codes[:, 1]) ** 2).mean(dim=1)
        return self.offset - self.scale * distance


def pairs(x, y, count):
    """Every fourth pair holds two images of one digit, the others of two."""
    first = torch.randint(0, len(x), (count,))
    second = torch.empty_like(first)
    for row, i in enumerate(first.tolist()):
        choice = (y == y[i]) if row % 4 == 0 else (y != y[i])
        choice = choice.nonzero().squeeze(1)
        second[row] = choice[torch.randint(0, len(choice), (1,))]
    return TensorDataset(torch.stack([x[first], x[second]], dim=1), (y[first] == y[second]).float())


def balanced_hits(model, loader):
    said, true = (torch.cat(part) for part in zip(*[(model(x) > 0, y > 0.5) for x, y in loader], strict=False))
    return float((said[true].float().mean() + (~said[~true]).float().mean()) / 2)


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = Siamese()
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(pairs(x[train], y[train], 4800), batch_size=60, shuffle=True),
        val=DataLoader(pairs(x[val], y[val], 1000), batch_size=500),
        epochs=12,
        score=balanced_hits,
    )
