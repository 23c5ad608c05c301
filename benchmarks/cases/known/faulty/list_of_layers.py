"""Hidden layers in a plain Python list: the model, and so the optimizer, does not know them."""

import torch
from case import classifier, table
from torch import nn

CAUSES = {"parameters-not-trained"}
WHERE = "optimizer"


class Net(nn.Module):
    def __init__(self, listed):
        super().__init__()
        self.first = nn.Linear(64, 12)
        self.layers = listed([nn.Linear(12, 12) for _ in range(6)])
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


def build(seed, listed):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(Net(listed), train, val, lr=3e-3, epochs=12)


def faulty(seed):
    return build(seed, list)


def fixed(seed):
    return build(seed, nn.ModuleList)
