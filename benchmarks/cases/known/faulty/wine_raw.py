"""Chemical measures between 0.1 and 1,680 go into a small network as they are."""

import torch
from case import classifier, mlp, table

CAUSES = {"inputs-not-normalized"}
WHERE = "data"


def build(seed, wrong):
    torch.manual_seed(seed)
    return classifier(mlp(13, 32, 3), *table("wine", not wrong), optimizer=None, epochs=30)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
