"""A GRU for a quantity with two slips in its update: two faults.

The network reads ten values and predicts a decaying sum of their squares. Its output is a column,
[N, 1], the targets are a row, [N], and the squared error compares each with every other, so that
the mean is the best answer; and the gradients are never cleared between updates. The repair squeezes
the output before the loss and calls `zero_grad`.
"""

import torch
from case import Case, r2, standard_step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-broadcast", "gradients-accumulate"}
WHERE = "loss"


class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, 1)

    def forward(self, series):
        states, _ = self.gru(series)
        return self.head(states[:, -1])


def series(rows):
    x = torch.randn(rows, 10, 1)
    weights = 0.8 ** torch.arange(9, -1, -1.0)
    y = (x.squeeze(2) ** 2 * weights).sum(dim=1)
    return TensorDataset(x, (y - 4.5) / 2.3)


def squared(outputs, targets):
    return ((outputs - targets) ** 2).mean()


def squared_by_row(outputs, targets):
    return ((outputs.squeeze(1) - targets) ** 2).mean()


def update(case, batch):
    inputs, targets = batch
    case.model.train()
    loss = case.loss(case.model(inputs), targets)
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def build(seed, loss, step):
    torch.manual_seed(seed)
    model = Leaky()
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(series(1500), batch_size=50, shuffle=True),
        val=DataLoader(series(500), batch_size=500),
        epochs=8,
        score=r2,
        step=step,
    )


def faulty(seed):
    return build(seed, squared, update)


def fixed(seed):
    return build(seed, squared_by_row, standard_step)
