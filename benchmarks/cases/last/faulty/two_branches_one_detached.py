"""A network of two branches, one of them cut off from the loss.

Each row holds a waveform of 32 samples and four readings of a machine; the machine is worn when the
waveform's tone is high for its load. `forward` detaches what the waveform branch returns, a leftover
of an experiment with precomputed features: its convolutions keep their random weights and no
gradient reaches them. The repair takes `.detach()` away.
"""

import math

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-detached", "parameters-not-trained"}
WHERE = "wave"


class Monitor(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.cut = cut
        self.wave = nn.Sequential(
            nn.Conv1d(1, 8, 7, padding=3),
            nn.ReLU(),
            nn.Conv1d(8, 2, 7, padding=3),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.readings = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(2 + 16, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        wave = self.wave(x[:, :32].unsqueeze(1))
        if self.cut:
            wave = wave.detach()
        return self.head(torch.cat([wave, self.readings(x[:, 32:])], dim=1)).squeeze(1)


def machines(rows):
    tone = 1 + 7 * torch.rand(rows, 1)
    phase = 2 * math.pi * torch.rand(rows, 1)
    samples = torch.arange(32) / 32
    wave = 1.4 * torch.sin(2 * math.pi * tone * samples + phase) + 0.8 * torch.randn(rows, 32)
    readings = torch.randn(rows, 4)
    worn = (tone.squeeze(1) > 4.5 + 0.5 * readings[:, 0]).float()
    return TensorDataset(torch.cat([wave, readings], dim=1), worn)


def hit_rate(model, loader):
    hits = torch.cat([(model(x) > 0) == (y > 0.5) for x, y in loader])
    return float(hits.float().mean())


def build(seed, cut):
    torch.manual_seed(seed)
    model = Monitor(cut)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.005),
        train=DataLoader(machines(1500), batch_size=50, shuffle=True),
        val=DataLoader(machines(500), batch_size=500),
        epochs=15,
        score=hit_rate,
    )


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
