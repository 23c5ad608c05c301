"""`F.dropout` without its switch: it drops values in evaluation as well."""

import torch
import torch.nn.functional as F
from case import classifier, table
from torch import nn

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"


class Net(nn.Module):
    def __init__(self, keeps):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.keeps = keeps

    def forward(self, x):
        on = self.training or self.keeps
        x = F.dropout(F.relu(self.a(x)), 0.6, training=on)
        x = F.dropout(F.relu(self.b(x)), 0.6, training=on)
        return self.c(x)


def build(seed, keeps):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(Net(keeps), train, val, lr=3e-3, epochs=15)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
