"""Digits blended in pairs.

Every batch is mixed with itself in another order, images and one-hot labels alike, by a share drawn anew each
time. The training loss stays high, since no blend has a clear answer, and the training images
never look like the validation images; the validation accuracy is what counts.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.92


def mixed_step(case, batch):
    images, labels = batch
    case.model.train()
    targets = nn.functional.one_hot(labels, 10).float()
    order = torch.randperm(len(images))
    share = torch.distributions.Beta(0.6, 0.6).sample((len(images), 1))
    targets = share * targets + (1 - share) * targets[order]
    share = share[:, :, None, None]
    case.optimizer.zero_grad()
    loss = case.loss(case.model(share * images + (1 - share) * images[order]), targets)
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1200], order[1200:]
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.004),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=30, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=300),
        epochs=12,
        score=accuracy,
        step=mixed_step,
    )
