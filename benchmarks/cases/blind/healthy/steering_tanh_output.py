"""Steering commands in -1..1 from a network that ends in a tanh.

Two commands for each state of a vehicle, both between -1 and 1 and at the stops for a part of the
rows; the last tanh is there to give exactly this range, and the loss is the squared error. RMSprop, and
one hidden layer of tanh too.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.93


def drives(rows, seed):
    g = torch.Generator().manual_seed(seed)
    state = torch.randn(rows, 5, generator=g)
    offset, heading, curve, speed, slope = state.unbind(dim=1)
    steer = torch.tanh(0.8 * curve - 0.7 * heading - 0.5 * offset * (1 + 0.3 * speed.clamp(-1, 1)))
    throttle = torch.tanh(0.5 * slope - 0.9 * speed - 0.4 * curve.abs())
    commands = torch.stack([steer, throttle], dim=1) + 0.05 * torch.randn(rows, 2, generator=g)
    return state, commands.clamp(-1, 1)


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Linear(48, 2), nn.Tanh())
    x, y = drives(2000, seed)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x[:1600], y[:1600]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[1600:], y[1600:]), batch_size=400),
        epochs=25,
        score=r2,
    )
