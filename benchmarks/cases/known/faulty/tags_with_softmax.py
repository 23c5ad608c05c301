"""Several tags a row, and a softmax at the output."""

import torch
from case import Case, loaders, mlp
from torch import nn

CAUSES = {"output-mismatch"}
WHERE = "3"


def data(rows, g):
    x = torch.randn(rows, 10, generator=g)
    w = torch.randn(10, 6, generator=torch.Generator().manual_seed(5))
    return x, ((x @ w) > 0).float()


def right(model, loader):
    hits = n = 0
    for x, y in loader:
        hits += int(((model(x) > 0.5) == (y > 0.5)).sum())
        n += y.numel()
    return hits / n


def build(seed, last):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(1)
    a, b = loaders(data(1200, g), data(400, g))
    model = nn.Sequential(*mlp(10, 32, 6), last)
    return Case(model, nn.BCELoss(), torch.optim.Adam(model.parameters(), lr=5e-3), a, b, 12, right)


def faulty(seed):
    return build(seed, nn.Softmax(dim=1))


def fixed(seed):
    return build(seed, nn.Sigmoid())
