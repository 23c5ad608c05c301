"""Six sigmoid layers, called as functions."""

import torch
from case import classifier, table
from torch import nn

CAUSES = {"missing-normalization", "saturating-activation", "init-too-small"}
WHERE = "layers.0"


class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64 if i == 0 else 32, 32) for i in range(6)])
        self.head = nn.Linear(32, 10)
        self.act = act

    def forward(self, x):
        for layer in self.layers:
            x = getattr(torch, self.act)(layer(x))
        return self.head(x)


def build(seed, act):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(Net(act), train, val, lr=2e-3, epochs=10)


def faulty(seed):
    return build(seed, "sigmoid")


def fixed(seed):
    return build(seed, "relu")
