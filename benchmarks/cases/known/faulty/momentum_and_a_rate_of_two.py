"""SGD with momentum 0.9 at a rate of 2."""

import torch
from case import classifier, mlp, table

CAUSES = {"learning-rate-too-high"}
WHERE = "optimizer"


def build(seed, wrong):
    torch.manual_seed(seed)
    model = mlp(64, 64, 64, 10)
    return classifier(
        model, *table("digits"), optimizer=torch.optim.SGD(model.parameters(), 2.0 if wrong else 0.02, 0.9)
    )


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
