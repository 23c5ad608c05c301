"""The training inputs were standardized, those of the validation were not."""

import torch
from case import classifier, mlp, table

CAUSES = {"train-val-mismatch"}
WHERE = "data"


def build(seed, wrong):
    torch.manual_seed(seed)
    train, val = table("breast_cancer")
    return classifier(mlp(30, 16, 2), train, table("breast_cancer", False)[1] if wrong else val, epochs=20)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
