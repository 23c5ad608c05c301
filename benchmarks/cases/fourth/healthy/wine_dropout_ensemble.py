"""Wines judged by forty draws of a network with dropout.

The model is left in training mode for evaluation on purpose: the mean of the probabilities over forty
random dropout masks is the answer. There is no batch normalisation that the mode could harm.
"""

import torch
from case import Case
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9
DRAWS = 40


def draws_accuracy(model, loader):
    hits = rows = 0
    for x, y in loader:
        mean = torch.stack([model(x).softmax(dim=1) for _ in range(DRAWS)]).mean(dim=0)
        hits, rows = hits + int((mean.argmax(dim=1) == y).sum()), rows + len(y)
    return hits / rows


def evaluate(case):
    case.model.train()
    with torch.no_grad():
        return case.score(case.model, case.val)


def healthy(seed):
    x, y = load_wine(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:110], order[110:]
    x = (x - x[train].mean(dim=0)) / x[train].std(dim=0)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(13, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 3)
    )
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=11, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=68),
        epochs=25,
        score=draws_accuracy,
        evaluate=evaluate,
    )
