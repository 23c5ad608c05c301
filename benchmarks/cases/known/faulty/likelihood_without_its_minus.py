"""The log-likelihood itself is minimized."""

import torch
from case import classifier, mlp, table

CAUSES = {"loss-mismatch", "gradient-ascent"}
WHERE = "loss"


def likelihood(outputs, targets):
    return outputs.log_softmax(1).gather(1, targets[:, None]).mean().clamp(min=-50)


def minus(outputs, targets):
    return -likelihood(outputs, targets)


def build(seed, loss):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(mlp(64, 32, 10), train, val, lr=2e-3, loss=loss, epochs=6)


def faulty(seed):
    return build(seed, likelihood)


def fixed(seed):
    return build(seed, minus)
