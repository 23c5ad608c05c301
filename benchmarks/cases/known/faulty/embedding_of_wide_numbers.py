"""An embedding drawn with a deviation of 50."""

import torch
import torch.nn.functional as F
from case import classifier
from torch import nn

CAUSES = {"init-too-large", "inputs-not-normalized"}
WHERE = "embed"


class Net(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        nn.init.normal_(self.embed.weight, std=std)
        self.a, self.b = nn.Linear(32, 48), nn.Linear(48, 5)

    def forward(self, x):
        return self.b(F.relu(self.a(self.embed(x).flatten(1))))


def rows(n, g):
    x = torch.randint(0, 40, (n, 2), generator=g)
    return x, (x[:, 0] % 5 + x[:, 1] % 3) % 5


def build(seed, std):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(3)
    return classifier(Net(std), rows(2500, g), rows(500, g), lr=3e-3, epochs=8)


def faulty(seed):
    return build(seed, 50.0)


def fixed(seed):
    return build(seed, 1.0)
