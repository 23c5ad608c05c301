"""The sum of all absolute weights, times 0.05, in the program's own step."""

import torch
from case import classifier, mlp, table

CAUSES = {"penalty-too-strong"}
WHERE = "loop"


def step_with(strength):
    def step(case, batch):
        x, y = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(x), y) + strength * sum(p.abs().sum() for p in case.model.parameters())
        loss.backward()
        case.optimizer.step()
        return loss.detach()

    return step


def build(seed, strength):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(mlp(64, 32, 10), train, val, step=step_with(strength), lr=3e-3)


def faulty(seed):
    return build(seed, 0.05)


def fixed(seed):
    return build(seed, 1e-5)
