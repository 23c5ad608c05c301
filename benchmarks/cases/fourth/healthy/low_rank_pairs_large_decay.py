"""Digits through layers of low rank.

Each wide layer is a pair of linear maps with nothing between them, 64 to 12 and 12 to 64, which saves
weights on purpose; the ReLU follows the pair. The decay of 0.2 looks huge but AdamW multiplies it by
the rate of 0.003, and it leaves biases alone.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.92


class LowRank(nn.Sequential):
    def __init__(self, inputs, outputs, rank):
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


def healthy(seed):
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1300], order[1300:]
    torch.manual_seed(seed)
    model = nn.Sequential(LowRank(64, 64, 12), nn.ReLU(), LowRank(64, 64, 12), nn.ReLU(), nn.Linear(64, 10))
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.2}, {"params": biases, "weight_decay": 0.0}]
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(groups, lr=0.003),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=250),
        epochs=20,
        score=accuracy,
    )
