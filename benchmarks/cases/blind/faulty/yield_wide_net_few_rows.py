"""Crop yield from three measurements, with sixty noisy fields and a wide network.

Half of the target's variance is noise. A net with two hidden layers of 256 is trained on the sixty rows for
300 epochs without any regularization: it bends through the single noisy values, the training error falls
to nothing, and the validation error, lowest in the first epochs, ends near that of answering the mean. The repair
is one hidden layer of eight, weight decay and an end after 80 epochs.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"overfitting"}
WHERE = "loop"

TRAIN = 60


def fields(rows, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=g)
    signal = x[:, 0] + 0.8 * torch.tanh(2 * x[:, 1]) - 0.6 * x[:, 2]
    y = (signal + 1.35 * torch.randn(rows, generator=g)) / 1.9
    return x, y[:, None]


def build(seed, model, epochs, weight_decay):
    x, y = fields(TRAIN + 300, seed)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=weight_decay),
        train=DataLoader(TensorDataset(x[:TRAIN], y[:TRAIN]), batch_size=20, shuffle=True),
        val=DataLoader(TensorDataset(x[TRAIN:], y[TRAIN:]), batch_size=300),
        epochs=epochs,
        score=r2,
    )


def faulty(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    return build(seed, model, epochs=300, weight_decay=0.0)


def fixed(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    return build(seed, model, epochs=80, weight_decay=0.1)
