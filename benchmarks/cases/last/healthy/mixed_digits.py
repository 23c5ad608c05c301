"""A network on digits that is trained on blends of two images (mixup).

The update adds to each image a share of another and splits the loss between the two labels in the
same proportion. The training loss therefore stays high and the blended images are never all right,
while plain validation digits are recognised well.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.95


def mixup(case, batch):
    x, y = batch
    case.model.train()
    case.optimizer.zero_grad()
    share = float(torch.distributions.Beta(0.5, 0.5).sample())
    other = torch.randperm(len(x))
    outputs = case.model(share * x + (1 - share) * x[other])
    loss = share * case.loss(outputs, y) + (1 - share) * case.loss(outputs, y[other])
    loss.backward()
    case.optimizer.step()
    return loss.detach()


def healthy(seed):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1300], order[1300:]
    model = nn.Sequential(nn.Linear(64, 192), nn.ReLU(), nn.Linear(192, 96), nn.ReLU(), nn.Linear(96, 10))
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=250),
        epochs=20,
        score=accuracy,
        step=mixup,
    )
