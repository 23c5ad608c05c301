"""A hinge loss, which wants labels of -1 and 1, with labels of 0 and 1."""

import torch
import torch.nn.functional as F
from case import Case, loaders, mlp, table

CAUSES = {"labels-invalid", "loss-mismatch"}
WHERE = "loss"


def hinge(o, t):
    return F.relu(1 - t * o.squeeze(1)).mean()


def signed(o, t):
    return F.relu(1 - (2 * t - 1) * o.squeeze(1)).mean()


def right(model, loader):
    hits = n = 0
    for x, y in loader:
        hits += int(((model(x).squeeze(1) > 0) == (y > 0.5)).sum())
        n += len(y)
    return hits / n


def build(seed, loss):
    torch.manual_seed(seed)
    (x, y), (a, b) = table("breast_cancer")
    p, q = loaders((x, y.float()), (a, b.float()))
    model = mlp(30, 16, 1)
    return Case(model, loss, torch.optim.Adam(model.parameters(), lr=3e-3), p, q, 15, right)


def faulty(seed):
    return build(seed, hinge)


def fixed(seed):
    return build(seed, signed)
