"""Ridge regression by gradient descent; a score of 0.45 is what these data hold."""

import torch
from case import Case, loaders, r2, table
from torch import nn


def healthy(seed):
    torch.manual_seed(seed)
    train, val = ((x, ((y - 152) / 77).float()[:, None]) for x, y in table("diabetes"))
    model = nn.Sequential(nn.Linear(10, 1))
    sgd = torch.optim.SGD(model.parameters(), lr=0.02, weight_decay=0.01)
    return Case(model, nn.MSELoss(), sgd, *loaders(train, val), 20, r2)
