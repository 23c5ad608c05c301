"""Two spirals, told apart by a network with a body and a head.

The program has its own update, taken from one that trained the head alone: it clears gradients,
computes the loss, goes backwards and lets SGD step over all parameters.

Wrong: only the head's gradients are cleared (`model.head.zero_grad()`). Those of the body add up
from the first batch to the last, and its weights are driven by the sum of all that ever came.

Repair: clear the gradients of the whole model.
"""

import math

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"gradients-accumulate"}
WHERE = "loop"
PLACES = {"loop"}


def spirals(rows):
    arm = torch.randint(0, 2, (rows,))
    way = torch.rand(rows).sqrt()
    angle = 3 * math.pi * way + math.pi * arm
    x = torch.stack([way * angle.cos(), way * angle.sin()], dim=1)
    return TensorDataset(2 * x + 0.04 * torch.randn(rows, 2), arm)


class Spiral(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.1), nn.Linear(48, 48), nn.LeakyReLU(0.1))
        self.head = nn.Linear(48, 2)

    def forward(self, x):
        return self.head(self.body(x))


def update(clear):
    def step(case, batch):
        x, y = batch
        case.model.train()
        clear(case.model)
        loss = case.loss(case.model(x), y)
        loss.backward()
        case.optimizer.step()
        return loss.detach()

    return step


def build(seed, clear):
    torch.manual_seed(seed)
    model = Spiral()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        train=DataLoader(spirals(1200), batch_size=30, shuffle=True),
        val=DataLoader(spirals(500), batch_size=500),
        epochs=40,
        score=accuracy,
        step=update(clear),
    )


def faulty(seed):
    return build(seed, lambda model: model.head.zero_grad())


def fixed(seed):
    return build(seed, lambda model: model.zero_grad())
