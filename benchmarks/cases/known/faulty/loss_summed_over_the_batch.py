"""A loss that is summed over the batch, at the rate of a mean."""

import torch
from case import classifier, mlp, table
from torch import nn

CAUSES = {"learning-rate-too-high"}
WHERE = "loss"


def build(seed, how):
    torch.manual_seed(seed)
    train, val = table("digits")
    model = mlp(64, 64, 64, 10)
    return classifier(
        model,
        train,
        val,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        loss=nn.CrossEntropyLoss(reduction=how),
        batch=64,
    )


def faulty(seed):
    return build(seed, "sum")


def fixed(seed):
    return build(seed, "mean")
