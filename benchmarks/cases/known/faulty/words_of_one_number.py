"""Words as single numbers: an embedding of size one."""

import torch
import torch.nn.functional as F
from case import classifier
from torch import nn

CAUSES = {"model-too-small"}
WHERE = "embed"


class Net(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.embed = nn.Embedding(40, size)
        self.a, self.b = nn.Linear(2 * size, 48), nn.Linear(48, 5)

    def forward(self, x):
        return self.b(F.relu(self.a(self.embed(x).flatten(1))))


def rows(n, g):
    x = torch.randint(0, 40, (n, 2), generator=g)
    return x, (x[:, 0] % 5 + x[:, 1] % 3) % 5


def build(seed, size):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(3)
    return classifier(Net(size), rows(2500, g), rows(500, g), lr=5e-3, epochs=15)


def faulty(seed):
    return build(seed, 1)


def fixed(seed):
    return build(seed, 16)
