"""A small transformer with the settings of two other programs.

Eight symbols go through an embedding and a transformer layer; the class is how often the first symbol
comes up again: never, once, or more. The learning rate of 0.1 comes from a recipe for plain gradient
descent and is given to Adam; the dropout of 0.9 comes from a program in which that number was the share
to keep. Each alone holds the model back. The repair is a rate of 0.005 and a dropout of 0.05.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-high", "dropout-too-strong"}
WHERE = "optimizer"
PLACES = {"optimizer", "drop", "layers.0.dropout", "layers.0.dropout1", "layers.0.dropout2"}
SYMBOLS, LENGTH = 5, 8


def rows(count):
    x = torch.randint(0, SYMBOLS, (count, LENGTH))
    again = (x[:, 1:] == x[:, :1]).sum(dim=1)
    return TensorDataset(x, again.clamp(max=2))


class Again(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 24)
        self.place = nn.Parameter(0.5 * torch.randn(LENGTH, 24))
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(24, 2, 48, dropout=dropout, batch_first=True) for _ in range(1)
        )
        self.out = nn.Linear(24, 3)

    def forward(self, x):
        x = self.drop(self.embedding(x) + self.place)
        for layer in self.layers:
            x = layer(x)
        return self.out(x[:, 0])


def build(seed, rate, dropout):
    torch.manual_seed(seed)
    model = Again(dropout)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=rate),
        train=DataLoader(rows(1500), batch_size=75, shuffle=True),
        val=DataLoader(rows(400), batch_size=400),
        epochs=14,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, rate=0.1, dropout=0.9)


def fixed(seed):
    return build(seed, rate=0.005, dropout=0.05)
