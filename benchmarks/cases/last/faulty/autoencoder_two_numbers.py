"""An autoencoder that must say a digit in two numbers.

The code between encoder and decoder has two values, chosen so that it can be plotted, but the
program is scored on how well the images are rebuilt: the share of the validation pixels' variance
that is kept. Longer training hardly helps. The repair is a code of sixteen values.
"""

import torch
from case import Case, r2
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"model-too-small"}
WHERE = "encoder.2"


class Autoencoder(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, code))
        self.decoder = nn.Sequential(nn.Linear(code, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def build(seed, code):
    torch.manual_seed(seed)
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32) / 8 - 1
    order = torch.randperm(len(x))
    train, val = x[order[:1300]], x[order[1300:]]
    model = Autoencoder(code)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(train, train), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(val, val), batch_size=250),
        epochs=25,
        score=r2,
    )


def faulty(seed):
    return build(seed, 2)


def fixed(seed):
    return build(seed, 16)
