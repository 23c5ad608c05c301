"""Biases of minus five in front of ReLUs that are functions: no unit is ever on."""

import torch
import torch.nn.functional as F
from case import classifier, table
from torch import nn

CAUSES = {"dead-units"}
WHERE = "a"


class Net(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        for layer in (self.a, self.b):
            nn.init.constant_(layer.bias, bias)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


def build(seed, bias):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(Net(bias), train, val)


def faulty(seed):
    return build(seed, -5.0)


def fixed(seed):
    return build(seed, 0.0)
