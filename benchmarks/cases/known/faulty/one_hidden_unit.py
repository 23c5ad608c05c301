"""Ten classes through a single hidden unit."""

import torch
from case import classifier, mlp, table

CAUSES = {"model-too-small"}
WHERE = "0"


def build(seed, wrong):
    torch.manual_seed(seed)
    return classifier(mlp(64, 1 if wrong else 64, 10), *table("digits"), lr=3e-3)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
