"""Heading of a tilted compass.

A sensor gives the magnetic field and gravity in its own tilted frame, six numbers. The network
answers with a vector whose direction is the heading; its length does not matter. The score is the
mean cosine between the answer and the true heading.

Wrong: the loss is the cosine itself, which is largest for a right answer. Making it small teaches
the network to point backwards.

Repair: the loss is one minus the cosine.
"""

import math

import torch
from case import Case
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"gradient-ascent"}
WHERE = "loss"
PLACES = {"loss"}


def turned(vector, first, second, angle):
    """The vectors, turned by an angle in the plane of two axes."""
    out = vector.clone()
    out[:, first] = angle.cos() * vector[:, first] - angle.sin() * vector[:, second]
    out[:, second] = angle.sin() * vector[:, first] + angle.cos() * vector[:, second]
    return out


def readings(rows):
    heading = 2 * math.pi * torch.rand(rows)
    pitch, roll = 0.4 * torch.randn(2, rows)
    north = torch.tensor([0.6, 0.0, -0.8]).repeat(rows, 1)
    down = torch.tensor([0.0, 0.0, -1.0]).repeat(rows, 1)
    seen = [turned(turned(turned(v, 0, 1, -heading), 0, 2, pitch), 1, 2, roll) for v in (north, down)]
    x = torch.cat(seen, dim=1) + 0.02 * torch.randn(rows, 6)
    return TensorDataset(x, torch.stack([heading.cos(), heading.sin()], dim=1))


def mean_cosine(model, loader):
    return float(torch.cat([cosine_similarity(model(x), y) for x, y in loader]).mean())


def build(seed, loss):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.002),
        train=DataLoader(readings(1000), batch_size=25, shuffle=True),
        val=DataLoader(readings(300), batch_size=300),
        epochs=10,
        score=mean_cosine,
    )


def faulty(seed):
    return build(seed, lambda output, heading: cosine_similarity(output, heading).mean())


def fixed(seed):
    return build(seed, lambda output, heading: (1 - cosine_similarity(output, heading)).mean())
