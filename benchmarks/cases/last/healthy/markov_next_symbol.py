"""The next symbol of a random chain, which nobody can always guess.

Sequences come from a Markov chain over eight symbols whose most likely successor is taken 60 % of the
time; a GRU predicts every next symbol at once. The loss levels off early at the chain's entropy and
the accuracy at about 0.6, which is the best there is.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.57
SYMBOLS, LENGTH = 8, 12


class NextSymbol(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 12)
        self.gru = nn.GRU(12, 24, batch_first=True)
        self.head = nn.Linear(24, SYMBOLS)

    def forward(self, ids):
        states, _ = self.gru(self.embedding(ids))
        return self.head(states).transpose(1, 2)  # [N, symbols, time], as cross_entropy wants it


def chain(rows):
    follow = torch.full((SYMBOLS, SYMBOLS), 0.4 / (SYMBOLS - 1))
    follow[torch.arange(SYMBOLS), (3 * torch.arange(SYMBOLS) + 1) % SYMBOLS] = 0.6
    ids = torch.randint(0, SYMBOLS, (rows, 1))
    for _ in range(LENGTH):
        ids = torch.cat([ids, torch.multinomial(follow[ids[:, -1]], 1)], dim=1)
    return TensorDataset(ids[:, :-1], ids[:, 1:])


def accuracy_by_symbol(model, loader):
    return accuracy(model, loader) / LENGTH


def healthy(seed):
    torch.manual_seed(seed)
    train, val = chain(1000), chain(500)
    model = NextSymbol()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=40, shuffle=True),
        val=DataLoader(val, batch_size=250),
        epochs=10,
        score=accuracy_by_symbol,
    )
