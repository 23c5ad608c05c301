"""A small network fitted by LBFGS in twelve steps.

The whole training set is one batch, the learning rate is 1 and there are only twelve epochs; each step
of the optimizer calls the loss up to twenty-five times through a closure.
"""

import torch
from case import Case, r2
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.85


def friedman(rows, seed):
    x, y = make_friedman1(n_samples=rows, n_features=6, noise=0.5, random_state=seed)
    x, y = torch.tensor(2 * x - 1, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    return TensorDataset(x, (y[:, None] - 14.4) / 4.9)


def closure_step(case, batch):
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
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=20, line_search_fn="strong_wolfe"),
        train=DataLoader(friedman(600, seed), batch_size=600),
        val=DataLoader(friedman(300, seed + 100), batch_size=300),
        epochs=12,
        score=r2,
        step=closure_step,
    )
