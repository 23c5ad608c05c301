"""The inputs were shuffled and the labels were not."""

import torch
from case import classifier, mlp, table

CAUSES = {"labels-corrupted"}
WHERE = "data"


def build(seed, wrong):
    torch.manual_seed(seed)
    (x, y), val = table("digits")
    if wrong:
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(9))]
    return classifier(mlp(64, 64, 10), (x, y), val)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
