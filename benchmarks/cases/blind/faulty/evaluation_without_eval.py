"""A convnet that is never put into evaluation mode.

The training part of the program is sound. The evaluation only switches gradients off: dropout
keeps dropping, and batch normalization takes its statistics from the validation batch, which holds
the images of one class since the validation files are read in order. The repair calls
`model.eval()` first.
"""

import torch
from case import Case, accuracy, standard_evaluate
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 10))

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


def evaluate_without_eval(case):
    with torch.no_grad():
        return case.score(case.model, case.val)


def build(seed, evaluate):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    train, val = order[:1216], order[1216:]
    val = val[torch.argsort(y[val], stable=True)]
    model = Net()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=3e-3),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=8),
        epochs=8,
        score=accuracy,
        evaluate=evaluate,
    )


def faulty(seed):
    return build(seed, evaluate_without_eval)


def fixed(seed):
    return build(seed, standard_evaluate)
