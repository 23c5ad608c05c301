"""A deep stack of sigmoids that does not leave the start."""

import torch
from case import classifier, mlp, table
from torch import nn

CAUSES = {"saturating-activation", "init-too-small", "missing-normalization"}
WHERE = "1"


def build(seed, wrong):
    torch.manual_seed(seed)
    return classifier(mlp(64, *[48] * 7, 10, activation=nn.Sigmoid if wrong else nn.ReLU), *table("digits"))


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
