"""`zero_grad()` between `backward()` and `step()`: the optimizer gets nothing."""

import torch
from case import classifier, mlp, table

CAUSES = {"parameters-not-trained", "loss-detached", "gradients-accumulate"}
WHERE = "loop"


def step_of(late):
    def step(case, batch):
        x, y = batch
        case.model.train()
        if not late:
            case.optimizer.zero_grad()
        loss = case.loss(case.model(x), y)
        loss.backward()
        if late:
            case.optimizer.zero_grad()
        case.optimizer.step()
        return loss.detach()

    return step


def build(seed, late):
    torch.manual_seed(seed)
    train, val = table("digits")
    return classifier(mlp(64, 32, 10), train, val, step=step_of(late), lr=3e-3)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
