"""An autoencoder whose code is made of bits.

Digits are squeezed into eight bits and drawn again from them. A bit is one where its hidden value
is above zero. The score is the share of the pixels' variance that the drawing keeps.

Wrong: comparing with zero cuts the graph. The loss reaches the decoder only; the encoder keeps the
random directions that it started with, and so the bits say little about the image.

Repair: a straight-through step. The forward pass still gives bits, the backward pass treats them
as if they were the sigmoid of the hidden value.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-detached"}
WHERE = "bits"
PLACES = {"bits", "encoder", "encoder.0", "encoder.2"}


class Bits(nn.Module):
    def forward(self, h):
        return (h > 0).float()


class StraightThroughBits(nn.Module):
    def forward(self, h):
        soft = torch.sigmoid(h)
        return soft + ((h > 0).float() - soft).detach()


class BinaryAutoencoder(nn.Module):
    def __init__(self, bits):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 8))
        self.bits = bits
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        return self.decoder(self.bits(self.encoder(x)))


def kept_variance(model, loader):
    images = torch.cat([x for x, _ in loader])
    error = ((model(images) - images) ** 2).mean()
    return float(1 - error / ((images - images.mean(dim=0)) ** 2).mean())


def build(seed, bits):
    torch.manual_seed(seed)
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32) / 16
    x = x[torch.randperm(len(x))] - x.mean(dim=0)
    model = BinaryAutoencoder(bits)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(TensorDataset(x[:1300], x[:1300]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[1300:], x[1300:]), batch_size=500),
        epochs=25,
        score=kept_variance,
    )


def faulty(seed):
    return build(seed, Bits())


def fixed(seed):
    return build(seed, StraightThroughBits())
