"""A one-dimensional convolutional network that tells waveforms apart.

Sine, square, triangle and sawtooth waves of random phase and pitch, with noise, are recorded one
kind after the other: 250 sines, then 250 squares and so on.

Wrong: the training loader keeps the order of the recording. Each batch holds one kind of wave
only, and at the end of an epoch the network has long seen nothing but sawtooths.

Repair: shuffle the training rows.
"""

import math

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"no-shuffle"}
WHERE = "data"
PLACES = {"data"}


def waves(each):
    rows = []
    for kind in range(4):
        pitch = 2 + 2 * torch.rand(each, 1)
        turn = (pitch * torch.linspace(0, 1, 64) + torch.rand(each, 1)) % 1
        shapes = [
            torch.sin(2 * math.pi * turn),
            torch.where(turn < 0.5, 1.0, -1.0),
            4 * (turn - 0.5).abs() - 1,
            2 * turn - 1,
        ]
        rows.append(shapes[kind] + 0.2 * torch.randn(each, 64))
    return TensorDataset(torch.cat(rows).unsqueeze(1), torch.arange(4).repeat_interleave(each))


class WaveNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 12, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(12, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(2),
        )
        self.classes = nn.Linear(32, 4)

    def forward(self, x):
        return self.classes(self.features(x).flatten(1))


def build(seed, shuffle):
    torch.manual_seed(seed)
    model = WaveNet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(waves(250), batch_size=25, shuffle=shuffle),
        val=DataLoader(waves(100), batch_size=400),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, shuffle=False)


def fixed(seed):
    return build(seed, shuffle=True)
