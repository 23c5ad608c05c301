"""A tumour classifier with jittered copies of its rows, the labels of which are in another order.

Two noisy copies of the training table are put below it to get more rows. The labels are repeated by
`repeat_interleave(3)`, that is a, a, a, b, b, b, where the rows are a, b, ..., a, b, ...: rows and
labels no longer belong together. The validation data is as it should be. The repair is `repeat(3)`.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"labels-corrupted"}
WHERE = "data"

COPIES = 3


def table(seed):
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    x = (x - x[:369].mean(dim=0)) / x[:369].std(dim=0)
    return x[:369], y[:369], x[369:], y[369:]


def with_copies(x, generator):
    copies = [x + 0.1 * torch.randn(x.shape, generator=generator) for _ in range(COPIES - 1)]
    return torch.cat([x, *copies])


def build(seed, repeat):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 24), nn.GELU(), nn.Dropout(0.2), nn.Linear(24, 2))
    x, y, x_val, y_val = table(seed)
    x = with_copies(x, torch.Generator().manual_seed(seed))
    y = repeat(y)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.002, weight_decay=0.01),
        train=DataLoader(TensorDataset(x, y), batch_size=27, shuffle=True),
        val=DataLoader(TensorDataset(x_val, y_val), batch_size=200),
        epochs=12,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, lambda y: y.repeat_interleave(COPIES))


def fixed(seed):
    return build(seed, lambda y: y.repeat(COPIES))
