"""Two moons, fitted in twelve updates by a second-order method.

LBFGS takes all rows at once and is given a function that it calls many times in one step, to find
a good length along its direction. One batch per epoch, no shuffling (there is nothing to shuffle)
and a learning rate of one are all as they should be.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.95


def moons(rows, seed):
    x, y = make_moons(rows, noise=0.15, random_state=seed)
    return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))


def search(case, batch):
    x, y = batch
    case.model.train()

    def closure():
        case.optimizer.zero_grad()
        loss = case.loss(case.model(x), y)
        loss.backward()
        return loss

    return case.optimizer.step(closure).detach()


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 2))
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.LBFGS(model.parameters(), lr=1, max_iter=12, line_search_fn="strong_wolfe"),
        train=DataLoader(moons(500, seed), batch_size=500),
        val=DataLoader(moons(400, seed + 100), batch_size=400),
        epochs=12,
        score=accuracy,
        step=search,
    )
