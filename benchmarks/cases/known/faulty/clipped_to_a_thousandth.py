"""Gradients clipped to a norm of a thousandth, and plain SGD."""

import torch
from case import classifier, mlp, table
from torch import nn

CAUSES = {"too-few-updates", "learning-rate-too-low"}
WHERE = "loop"


def step_with(limit):
    def step(case, batch):
        x, y = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(case.model.parameters(), limit)
        case.optimizer.step()
        return loss.detach()

    return step


def build(seed, limit):
    torch.manual_seed(seed)
    train, val = table("digits")
    model = mlp(64, 32, 10)
    return classifier(model, train, val, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), step=step_with(limit))


def faulty(seed):
    return build(seed, 1e-3)


def fixed(seed):
    return build(seed, 1.0)
