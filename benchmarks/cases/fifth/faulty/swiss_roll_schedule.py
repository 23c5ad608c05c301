"""Position along a rolled-up sheet, learnt with a falling learning rate.

Points of a swiss roll in three dimensions go in, how far along the roll they lie comes out. The
learning rate of SGD is to fall by a tenth after every epoch.

Wrong: the fall by a tenth comes after every batch. An epoch has 40 batches, so the rate has fallen
to a hundredth soon after the first epoch, and then to nothing.

Repair: spread the fall over the batches of an epoch; each one takes the fortieth root of 0.9.
"""

import torch
from case import Case, r2
from sklearn.datasets import make_swiss_roll
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-low"}
WHERE = "loop"
PLACES = {"loop", "optimizer"}


def roll(seed):
    x, t = make_swiss_roll(1600, noise=0.2, random_state=seed)
    x, t = torch.tensor(x, dtype=torch.float32), torch.tensor(t, dtype=torch.float32).unsqueeze(1)
    x, t = (x - x.mean(dim=0)) / x.std(dim=0), (t - t.mean()) / t.std()
    return TensorDataset(x[:1200], t[:1200]), TensorDataset(x[1200:], t[1200:])


class Unroll(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 48), nn.ELU(), nn.Linear(48, 48), nn.ELU(), nn.Linear(48, 1))

    def forward(self, x):
        return self.net(x)


def falling(factor):
    """An update after which the learning rate is multiplied by `factor(batches per epoch)`."""

    def step(case, batch):
        x, t = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(x), t)
        loss.backward()
        case.optimizer.step()
        for group in case.optimizer.param_groups:
            group["lr"] *= factor(len(case.train))
        return loss.detach()

    return step


def build(seed, factor):
    torch.manual_seed(seed)
    train, val = roll(seed)
    model = Unroll()
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9),
        train=DataLoader(train, batch_size=30, shuffle=True),
        val=DataLoader(val, batch_size=400),
        epochs=25,
        score=r2,
        step=falling(factor),
    )


def faulty(seed):
    return build(seed, lambda batches: 0.9)


def fixed(seed):
    return build(seed, lambda batches: 0.9 ** (1 / batches))
