"""A convnet with batch normalisation and dropout, scored in training mode.

Training is sound, but the program's own evaluation never calls `eval()`: at validation, units are
dropped and each batch is normalised with its own statistics. The validation digits come sorted by
class, twenty at a time, so those statistics remove much of what tells the classes apart. The
repair calls `model.eval()` first.
"""

import torch
from case import Case, accuracy, standard_evaluate
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-mode-in-eval"}
WHERE = "loop"


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 16, 48, bias=False),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(48, 10),
        )

    def forward(self, x):
        return self.head(self.features(x))


def score_as_is(case):
    with torch.no_grad():
        return case.score(case.model, case.val)


def build(seed, evaluate):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1200], order[1200:]
    val = val[y[val].argsort()]
    model = ConvNet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=20),
        epochs=8,
        score=accuracy,
        evaluate=evaluate,
    )


def faulty(seed):
    return build(seed, score_as_is)


def fixed(seed):
    return build(seed, standard_evaluate)
