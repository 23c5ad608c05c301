"""How much later, or earlier, an echo arrives than expected.

Two traces of 48 samples go through a 1-D convolution that estimates the shift between them, a number
with either sign. The network is put together from a helper, `block`, which ends in a ReLU, and the output
layer was made with the same helper: no shift below zero can ever be said. The repair makes the
output a linear layer alone.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"output-mismatch"}
WHERE = "head.1"
PLACES = {"head", "head.0", "head.1"}


def traces(rows):
    """Standardized shifts, -4 to 4 samples, of a smooth pulse."""
    time = torch.arange(48.0)
    start = 20 + 8 * torch.rand(rows, 1)
    shift = 8 * torch.rand(rows, 1) - 4
    both = torch.stack([start, start + shift], dim=1)
    pulses = torch.exp(-(((time - both) / 2.5) ** 2) / 2)
    return TensorDataset(2 * pulses - 0.3 + 0.1 * torch.randn_like(pulses), shift / 2.3)


def block(layer):
    return nn.Sequential(layer, nn.ReLU())


class Shift(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.first = block(nn.Conv1d(2, 16, 7, stride=2, padding=3))
        self.second = block(nn.Conv1d(16, 16, 5, stride=2, padding=2))
        self.third = block(nn.Linear(16 * 12, 32))
        self.head = head(nn.Linear(32, 1))

    def forward(self, x):
        x = self.second(self.first(x)).flatten(1)
        return self.head(self.third(x))


def build(seed, head):
    torch.manual_seed(seed)
    model = Shift(head)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(traces(1000), batch_size=40, shuffle=True),
        val=DataLoader(traces(400), batch_size=400),
        epochs=12,
        score=r2,
    )


def faulty(seed):
    return build(seed, block)


def fixed(seed):
    return build(seed, lambda layer: layer)
