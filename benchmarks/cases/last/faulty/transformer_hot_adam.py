"""A small transformer trained with Adam at a rate meant for plain gradient descent.

8x8 digits are read as eight tokens, one image row each, by two post-norm encoder blocks. Adam runs
at 0.05, a rate at which SGD would be fine: every weight moves by about that much in each of the first
updates, and the network hardly learns. The repair is a rate of 0.002.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-high"}
WHERE = "optimizer"


class RowTransformer(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.blocks = nn.Sequential(
            *[nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True) for _ in range(2)]
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        tokens = self.embed(x) + self.position
        return self.head(self.blocks(tokens).mean(dim=1))


def build(seed, rate):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x = (torch.tensor(x, dtype=torch.float32).reshape(-1, 8, 8) - 5) / 6
    y = torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1200], order[1200:]
    model = RowTransformer()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=rate),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=300),
        epochs=7,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, 0.05)


def fixed(seed):
    return build(seed, 0.002)
