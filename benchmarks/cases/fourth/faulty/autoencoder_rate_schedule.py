"""An autoencoder whose learning rate shrinks by a tenth.

The rate is meant to fall by a tenth after each epoch, but the schedule is moved on in the
update, once a batch: after the first epoch the rate is a hundredth of what it was, after the second
it is nothing, and the weights stay nearly where they began. The repair moves the
schedule on after the last batch of an epoch.
"""

import torch
from case import Case
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-low"}
WHERE = "loop"
PLACES = {"loop", "optimizer"}


def digits():
    x, _ = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32) / 16
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    return TensorDataset(x[:1300], x[:1300]), TensorDataset(x[1300:], x[1300:])


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 12))
        self.decoder = nn.Sequential(nn.Linear(12, 64), nn.GELU(), nn.Linear(64, 64))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def explained_variance(model, loader):
    images = torch.cat([x for x, _ in loader])
    error = ((model(images) - images) ** 2).mean()
    return float(1 - error / ((images - images.mean(dim=0)) ** 2).mean())


def build(seed, every):
    torch.manual_seed(seed)
    model = Autoencoder()
    train, val = digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    loader = DataLoader(train, batch_size=30, shuffle=True)
    done = 0

    def step(case, batch):
        nonlocal done
        images, targets = batch
        case.model.train()
        case.optimizer.zero_grad()
        loss = case.loss(case.model(images), targets)
        loss.backward()
        case.optimizer.step()
        done += 1
        if done % every(loader) == 0:
            schedule.step()
        return loss.detach()

    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=optimizer,
        train=loader,
        val=DataLoader(val, batch_size=250),
        epochs=20,
        score=explained_variance,
        step=step,
    )


def faulty(seed):
    return build(seed, every=lambda loader: 1)


def fixed(seed):
    return build(seed, every=len)
