"""A tabular model with embeddings whose label encoder was fitted on each file by itself.

Three categorical columns of up to 60 names, some of them rare, are turned into numbers by their
place in the sorted list of names. The author makes that list once for the training rows and once
more for the validation rows; names that do not occur there shift all later codes, so most
embeddings looked up in validation belong to another name. The repair uses the training rows' list
for both (a name that training never saw takes the code 0).
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"train-val-mismatch"}
WHERE = "data"
NAMES = 60


class Tabular(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(NAMES + 1, 4) for _ in range(3))
        self.head = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        return self.head(torch.cat([table(x[:, i]) for i, table in enumerate(self.embeddings)], dim=1))


def frames():
    """Raw rows: numbers stand for the names, in alphabetical order."""
    effects = torch.randn(3, NAMES)
    shares = torch.stack([1 / (2.0 + torch.randperm(NAMES)) ** 1.2 for _ in range(3)])
    x = torch.multinomial(shares, 4300, replacement=True).T
    strength = sum(effects[i, x[:, i]] for i in range(3))
    y = (2.5 * strength + torch.randn(len(x)) > 0).long()
    return (x[:4000], y[:4000]), (x[4000:], y[4000:])


def encoders(x):
    return [column.unique() for column in x.T]


def encode(x, names):
    columns = []
    for column, known in zip(x.T, names, strict=False):
        match = column[:, None] == known
        columns.append(torch.where(match.any(dim=1), match.float().argmax(dim=1) + 1, 0))
    return torch.stack(columns, dim=1)


def build(seed, fit_again):
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = frames()
    names = encoders(x)
    names_val = encoders(x_val) if fit_again else names
    model = Tabular()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4),
        train=DataLoader(TensorDataset(encode(x, names), y), batch_size=64, shuffle=True),
        val=DataLoader(TensorDataset(encode(x_val, names_val), y_val), batch_size=300),
        epochs=6,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, fit_again=True)


def fixed(seed):
    return build(seed, fit_again=False)
