"""A recurrent network that reads a digit line by line.

A plain tanh RNN of 64 units reads the eight lines of an 8x8 digit, and a linear layer names the
digit. All weights are drawn from a standard normal distribution, `nn.init.normal_` with its default
deviation of 1: the recurrent matrix multiplies the state by about 8 at every step and the gradient
goes wild. The repair scales the deviation by one over the root of the number of inputs.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"init-too-large"}
WHERE = "rnn"
PLACES = {"rnn"}


def digits():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1200], order[1200:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


class LineReader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.head(states[:, -1])


def initialize(model, scaled):
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif scaled:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        else:
            nn.init.normal_(parameter)


def build(seed, scaled):
    torch.manual_seed(seed)
    model = LineReader()
    initialize(model, scaled)
    train, val = digits()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(train, batch_size=40, shuffle=True),
        val=DataLoader(val, batch_size=200),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, scaled=False)


def fixed(seed):
    return build(seed, scaled=True)
