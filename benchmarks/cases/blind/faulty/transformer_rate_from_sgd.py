"""A small transformer trained by Adam with a step size taken over from an SGD script.

Sequences of twelve symbols are to be named by their most frequent one. The two encoder layers, the
embeddings and the head are all trained by Adam with lr=0.1, which was the rate of an earlier model
under plain SGD. Every weight moves by about 0.1 in each of the first steps; attention and layer
norms do not recover, and the answers stay little better than guesses. The repair is lr=0.002.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-high"}
WHERE = "optimizer"

SYMBOLS, LENGTH = 5, 12


def sequences(rows, generator):
    y = torch.randint(0, SYMBOLS, (rows,), generator=generator)
    x = torch.randint(0, SYMBOLS, (rows, LENGTH), generator=generator)
    planted = torch.rand(rows, LENGTH, generator=generator) < 0.35
    x = torch.where(planted, y[:, None], x)
    counts = nn.functional.one_hot(x, SYMBOLS).sum(dim=1)
    top = counts.topk(2, dim=1).values
    clear = top[:, 0] > top[:, 1]  # no ties
    return TensorDataset(x[clear], counts[clear].argmax(dim=1))


class Majority(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS, width)
        self.position = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=48, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, x):
        h = self.encoder(self.embed(x) + self.position)
        return self.head(h.mean(dim=1))


def build(seed, lr):
    torch.manual_seed(seed)
    model = Majority()
    generator = torch.Generator().manual_seed(100 + seed)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
        train=DataLoader(sequences(1400, generator), batch_size=64, shuffle=True),
        val=DataLoader(sequences(500, generator), batch_size=250),
        epochs=6,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, lr=0.1)


def fixed(seed):
    return build(seed, lr=0.002)
