"""The optimizer was told to maximize."""

import torch
from case import classifier, mlp, table

CAUSES = {"gradient-ascent"}
WHERE = "optimizer"


def build(seed, wrong):
    torch.manual_seed(seed)
    model = mlp(64, 64, 10)
    return classifier(model, *table("digits"), optimizer=torch.optim.SGD(model.parameters(), 0.05, maximize=wrong))


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
