"""Sine units that draw a wave.

A network of sines learns a sum of two tones from 600 noisy samples on [-1, 1]. The first layer multiplies
its input by 30 before the sine, and the other layers start from a narrow uniform
range, as such networks do. No unit ever saturates, and the output is a plain linear layer.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


class Sine(nn.Module):
    def __init__(self, inputs, outputs, speed=1.0):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.speed = speed
        bound = 1 / inputs if speed > 1 else (6 / inputs) ** 0.5
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.speed * self.linear(x))


def wave(rows):
    x = 2 * torch.rand(rows, 1) - 1
    return TensorDataset(x, torch.sin(15 * x) + 0.7 * torch.cos(23 * x + 1) + 0.1 * torch.randn(rows, 1))


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(Sine(1, 48, speed=30.0), Sine(48, 48), nn.Linear(48, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.001),
        train=DataLoader(wave(600), batch_size=30, shuffle=True),
        val=DataLoader(wave(300), batch_size=300),
        epochs=40,
        score=r2,
    )
