"""A GRU that reads its training images folder by folder.

The training digits were collected class by class, as from one folder per class, and the loader
leaves them in that order: each epoch the network sees only zeros, then only ones, and so on, and
ends the epoch answering "nine". The repair is `shuffle=True`.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"no-shuffle"}
WHERE = "data"


class RowReader(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, rows):
        states, _ = self.gru(rows)
        return self.head(states.mean(dim=1))


def build(seed, shuffle):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = (torch.tensor(x, dtype=torch.float32).reshape(-1, 8, 8) - 5) / 6, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1200], order[1200:]
    train = torch.cat([train[y[train] == digit] for digit in range(10)])
    model = RowReader()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.003),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=30, shuffle=shuffle),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=300),
        epochs=10,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, False)


def fixed(seed):
    return build(seed, True)
