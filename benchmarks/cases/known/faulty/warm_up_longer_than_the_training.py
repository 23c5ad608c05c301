"""A warm-up over half a million updates, of which the training has 645."""

import torch
from case import classifier, mlp, standard_step, table

CAUSES = {"too-few-updates", "learning-rate-too-low"}
WHERE = "optimizer"


def scheduled(case, batch):
    loss = standard_step(case, batch)
    case.schedule.step()
    return loss


def build(seed, warm):
    torch.manual_seed(seed)
    train, val = table("digits")
    model = mlp(64, 32, 10)
    case = classifier(model, train, val, step=scheduled, lr=3e-3)
    case.schedule = torch.optim.lr_scheduler.LambdaLR(case.optimizer, lambda i: min(1.0, i / warm))
    return case


def faulty(seed):
    return build(seed, 500000)


def fixed(seed):
    return build(seed, 50)
