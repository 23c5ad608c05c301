"""A transfer-learning head whose dropout was given the probability to keep.

A backbone trained beforehand on the digits 0 to 4 is frozen; a new head learns 5 to 9 on its
features. The head was carried over from a library whose dropout takes the share of values to keep:
`Dropout(0.95)` keeps one value in twenty here. The repair is `Dropout(0.05)`.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dropout-too-strong"}
WHERE = "head.0"


class Transfer(nn.Module):
    def __init__(self, backbone, rate):
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = nn.Sequential(nn.Dropout(rate), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(rate), nn.Linear(64, 5))

    def forward(self, x):
        return self.head(self.backbone(x))


def digits(classes):
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16 - 0.3, torch.tensor(y)
    keep = torch.isin(y, torch.tensor(classes))
    return x[keep], y[keep] - classes[0]


def pretrained():
    x, y = digits([0, 1, 2, 3, 4])
    backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
    network = nn.Sequential(backbone, nn.Linear(128, 5))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return backbone


def build(seed, rate):
    torch.manual_seed(seed)
    model = Transfer(pretrained(), rate)
    x, y = digits([5, 6, 7, 8, 9])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:600], order[600:]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.head.parameters(), lr=3e-3),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=len(val)),
        epochs=20,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, rate=0.95)


def fixed(seed):
    return build(seed, rate=0.05)
