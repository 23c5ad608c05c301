"""Attention that looks up a value by its key.

A row holds six pairs of a key (of 12) and a value (of 8), and one key to ask for. The question
attends over the pairs; what comes back is read by a linear layer that names the value.

Wrong: the projections of question and pair are drawn from a normal distribution of width one,
though they have 32 inputs. The scores before the softmax then lie tens apart, each question
looks at a single arbitrary pair, and next to no gradient passes the softmax.

Repair: leave these layers to the initialization that they come with.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"init-too-large"}
WHERE = "query"
PLACES = {"query", "key"}

KEYS, VALUES, PAIRS, WIDTH = 12, 8, 6, 32


def lookups(rows):
    keys = torch.rand(rows, KEYS).argsort(dim=1)[:, :PAIRS]
    values = torch.randint(0, VALUES, (rows, PAIRS))
    place = torch.randint(0, PAIRS, (rows, 1))
    x = torch.cat([keys, values, keys.gather(1, place)], dim=1)
    return TensorDataset(x, values.gather(1, place).squeeze(1))


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = nn.Embedding(KEYS, WIDTH)
        self.contents = nn.Embedding(VALUES, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, VALUES)

    def forward(self, x):
        names = self.names(x[:, :PAIRS])
        question = self.query(self.names(x[:, -1])).unsqueeze(1)
        scores = (question * self.key(names)).sum(dim=2) / WIDTH**0.5
        mixed = (scores.softmax(dim=1).unsqueeze(2) * self.value(self.contents(x[:, PAIRS:-1]))).sum(dim=1)
        return self.out(mixed)


def build(seed, prepare):
    torch.manual_seed(seed)
    model = Lookup()
    train, val = lookups(1500), lookups(500)
    prepare(model)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=500),
        epochs=20,
        score=accuracy,
    )


def wide(model):
    nn.init.normal_(model.query.weight)
    nn.init.normal_(model.key.weight)


def faulty(seed):
    return build(seed, wide)


def fixed(seed):
    return build(seed, lambda model: None)
