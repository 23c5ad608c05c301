"""A denoiser that estimates the noise in an image.

Scans of digits get noise of zero mean; a stack of convolutions is trained to give the noise, which
is then subtracted. The stack is built in a loop, one convolution and one activation per turn.

Wrong: the loop puts a ReLU behind the last convolution as well. Noise is negative in half of the
pixels, and a ReLU gives nothing below zero.

Repair: no activation behind the last convolution.
"""

import itertools

import torch
from case import Case, r2
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"output-mismatch"}
WHERE = "5"
PLACES = {"5"}


def scans():
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 0.6
    x = x[torch.randperm(len(x))]
    noise = 0.8 * torch.randn_like(x)
    noisy = x + noise
    return TensorDataset(noisy[:800], noise[:800]), TensorDataset(noisy[800:1100], noise[800:1100])


def stack(last_activation):
    widths = [1, 16, 16, 1]
    layers = []
    for place, (inside, outside) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Conv2d(inside, outside, 3, padding=1))
        if last_activation or place < len(widths) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def build(seed, last_activation):
    torch.manual_seed(seed)
    train, val = scans()
    model = stack(last_activation)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.004),
        train=DataLoader(train, batch_size=20, shuffle=True),
        val=DataLoader(val, batch_size=300),
        epochs=12,
        score=r2,
    )


def faulty(seed):
    return build(seed, last_activation=True)


def fixed(seed):
    return build(seed, last_activation=False)
