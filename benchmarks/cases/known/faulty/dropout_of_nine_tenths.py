"""Dropout of 0.9 behind both hidden layers."""

import torch
from case import classifier, table
from torch import nn

CAUSES = {"dropout-too-strong"}
WHERE = "2"


def build(seed, wrong):
    torch.manual_seed(seed)
    p = 0.9 if wrong else 0.1
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(p), nn.Linear(64, 10)
    )
    return classifier(model, *table("digits"))


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
