"""Spectra that are turned round for training only.

A 1-D convolution names the substance of a spectrum of 64 counts. The instrument writes the highest
wave number first; the training spectra are put in rising order and on a log scale, the validation
spectra on the log scale only, so that every line lies at the mirrored place. The repair prepares both
sets with the same function.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-val-mismatch"}
WHERE = "data"
PLACES = {"data"}
LINES = torch.tensor([[4, 12, 22], [4, 16, 30], [9, 12, 34], [9, 24, 40], [14, 22, 46]])
HEIGHTS = torch.tensor([60.0, 25.0, 10.0])


def spectra(rows):
    """Counts as the instrument writes them, and the substances."""
    y = torch.randint(0, len(LINES), (rows,))
    place = torch.arange(64.0)
    shift = torch.randn(rows, 1, 1) * 0.7
    peaks = torch.exp(-(((place - LINES[y][:, :, None] - shift) / 1.5) ** 2) / 2)
    clean = 2 + (peaks * HEIGHTS[torch.rand(rows, 3).argsort(dim=1)][:, :, None]).sum(dim=1)
    bright = torch.exp(0.5 * torch.randn(rows, 1))
    return torch.poisson(3 * bright * clean)[:, None].flip(2), y


def log_scaled(counts):
    counts = torch.log1p(counts)
    return (counts - counts.mean()) / counts.std()


def rising_log_scaled(counts):
    return log_scaled(counts.flip(2))


def build(seed, prepare_val):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv1d(1, 12, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(12, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.Flatten(),
        nn.Linear(16 * 8, len(LINES)),
    )
    x, y = spectra(900)
    val_x, val_y = spectra(400)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(rising_log_scaled(x), y), batch_size=30, shuffle=True),
        val=DataLoader(TensorDataset(prepare_val(val_x), val_y), batch_size=400),
        epochs=10,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, log_scaled)


def fixed(seed):
    return build(seed, rising_log_scaled)
