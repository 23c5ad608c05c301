"""All rows in one batch: fifteen updates in fifteen epochs."""

import torch
from case import classifier, mlp, table

CAUSES = {"too-few-updates", "learning-rate-too-low"}
WHERE = "data"


def build(seed, batch):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(mlp(64, 32, 10), train, val, batch=batch, epochs=15)


def faulty(seed):
    return build(seed, 1347)


def fixed(seed):
    return build(seed, 32)
