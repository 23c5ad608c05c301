"""A waveform classifier evaluated through an average of its weights that leaves out the buffers.

A one-dimensional convnet with batch normalisation tells sine, square and sawtooth apart. An exponential
moving average of the weights is kept in `ema` and used for evaluation. The averaging goes over
`parameters()` only: the copy's running means and variances are those of a fresh model, 0 and 1, to the end.
The repair copies the buffers along.
"""

import copy

import torch
from case import Case, accuracy, standard_step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"stale-running-statistics"}
WHERE = "ema.1"

DECAY = 0.97


def convnet():
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2, bias=False), nn.BatchNorm1d(16), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


class Averaged(nn.Module):
    """Trains `net`, answers with `ema`."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.ema = copy.deepcopy(net).requires_grad_(False)

    def forward(self, x):
        return self.net(x) if self.training else self.ema(x)

    @torch.no_grad()
    def average(self):
        for slow, fast in zip(self.ema.parameters(), self.net.parameters(), strict=False):
            slow.lerp_(fast, 1 - DECAY)

    @torch.no_grad()
    def copy_buffers(self):
        for slow, fast in zip(self.ema.buffers(), self.net.buffers(), strict=False):
            slow.copy_(fast)


def waves(rows, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (rows,), generator=g)
    cycles = 2 + 2 * torch.rand(rows, 1, generator=g)
    turn = cycles * torch.arange(48) / 48 + torch.rand(rows, 1, generator=g)
    sine = 1.41 * torch.sin(2 * torch.pi * turn)
    square = torch.sign(sine)
    saw = 1.73 * (2 * (turn % 1) - 1)
    x = torch.stack([sine, square, saw])[y, torch.arange(rows)]
    x = x + 0.3 * torch.randn(rows, 48, generator=g)
    return x[:, None], y


def step_parameters(case, batch):
    loss = standard_step(case, batch)
    case.model.average()
    return loss


def step_parameters_and_buffers(case, batch):
    loss = standard_step(case, batch)
    case.model.average()
    case.model.copy_buffers()
    return loss


def build(seed, step):
    torch.manual_seed(seed)
    model = Averaged(convnet())
    x, y = waves(1500, seed)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.net.parameters(), lr=0.05, momentum=0.9),
        train=DataLoader(TensorDataset(x[:1200], y[:1200]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[1200:], y[1200:]), batch_size=300),
        epochs=8,
        score=accuracy,
        step=step,
    )


def faulty(seed):
    return build(seed, step_parameters)


def fixed(seed):
    return build(seed, step_parameters_and_buffers)
