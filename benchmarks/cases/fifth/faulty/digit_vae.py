"""A variational autoencoder on digits.

An encoder gives mean and log-variance of a code of six numbers, a decoder draws the digit from a
sample of it. The update adds the divergence of the code from a standard normal to the error of the
drawing. The score is the share of the pixels' variance that the drawing of the mean code keeps.

Wrong: the error is a mean over all pixels of all rows, the divergence a sum over all rows. The
divergence weighs many thousand times too much; the cheapest code is one that holds nothing, and
the decoder draws the same average for every digit.

Repair: put both on the same footing, as in the evidence bound: per row, the squared error summed
over the pixels and divided by twice their noise variance, plus the divergence.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"penalty-too-strong"}
WHERE = "loop"
PLACES = {"loop", "loss"}

NOISE = 0.03


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 12))
        self.decoder = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64))

    def code(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, x):
        return self.decoder(self.code(x)[0])


def update(divergence_weight):
    def step(case, batch):
        x, target = batch
        case.model.train()
        case.optimizer.zero_grad()
        mean, log_variance = case.model.code(x)
        sample = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        loss = case.loss(case.model.decoder(sample), target) + divergence_weight(x) * divergence
        loss.backward()
        case.optimizer.step()
        return loss.detach()

    return step


def kept_variance(model, loader):
    images = torch.cat([x for x, _ in loader])
    error = ((model(images) - images) ** 2).mean()
    return float(1 - error / ((images - images.mean(dim=0)) ** 2).mean())


def build(seed, divergence_weight):
    torch.manual_seed(seed)
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32)[torch.randperm(len(x))] / 16
    model = Vae()
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(TensorDataset(x[:1300], x[:1300]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[1300:], x[1300:]), batch_size=500),
        epochs=20,
        score=kept_variance,
        step=update(divergence_weight),
    )


def faulty(seed):
    return build(seed, lambda x: 1.0)


def fixed(seed):
    return build(seed, lambda x: 2 * NOISE / x.numel())
