"""An autoencoder whose encoder was frozen and never released.

The script stems from one that loaded a pretrained encoder and trained a new decoder for it. Here nothing
is loaded, but the loop that sets `requires_grad` to False on the encoder's parameters is still there: six
random features are all the decoder gets to see. The repair takes the loop away. The score is the share
of the validation pixels' variance that the reconstruction keeps.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"parameters-not-trained"}
WHERE = "encoder"


class Autoencoder(nn.Module):
    def __init__(self, code=6):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, code))
        self.decoder = nn.Sequential(nn.Linear(code, 40), nn.ReLU(), nn.Linear(40, 64))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def explained_variance(model, loader):
    images = torch.cat([x for x, _ in loader])
    error = ((model(images) - images) ** 2).mean()
    return float(1 - error / ((images - images.mean(dim=0)) ** 2).mean())


def build(seed, freeze):
    torch.manual_seed(seed)
    model = Autoencoder()
    if freeze:
        for parameter in model.encoder.parameters():
            parameter.requires_grad = False
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32) / 16
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.003),
        train=DataLoader(TensorDataset(x[:1300], x[:1300]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[1300:], x[1300:]), batch_size=497),
        epochs=30,
        score=explained_variance,
    )


def faulty(seed):
    return build(seed, freeze=True)


def fixed(seed):
    return build(seed, freeze=False)
