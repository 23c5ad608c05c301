"""Adam at 1e-6."""

import torch
from case import classifier, mlp, table

CAUSES = {"learning-rate-too-low", "too-few-updates"}
WHERE = "optimizer"


def build(seed, wrong):
    torch.manual_seed(seed)
    return classifier(mlp(64, 64, 10), *table("digits"), lr=1e-6 if wrong else 1e-3)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
