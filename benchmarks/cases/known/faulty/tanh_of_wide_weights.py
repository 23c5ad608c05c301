"""Four tanh layers whose weights are drawn with a deviation of 2."""

import torch
from case import classifier, mlp, table
from torch import nn

CAUSES = {"init-too-large", "saturating-activation"}
WHERE = "0"


def build(seed, wrong):
    torch.manual_seed(seed)
    model = mlp(64, 64, 64, 64, 10, activation=nn.Tanh)
    if wrong:
        for layer in model[::2]:
            nn.init.normal_(layer.weight, std=2.0)
    return classifier(model, *table("digits"))


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
