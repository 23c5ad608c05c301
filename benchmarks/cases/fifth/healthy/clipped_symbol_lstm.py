"""A next-symbol LSTM trained by plain SGD at a rate of 10.

The rate looks absurd; it belongs to gradients that are clipped to a norm of 0.25, as was long the
custom for language models. Sequences repeat a random word of three symbols; from the fourth symbol
on the next one is known. The score is the share of those that are named.
"""

import torch
from case import Case
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.95


def repeats(rows):
    word = torch.randint(0, 6, (rows, 3))
    text = word.repeat(1, 5)
    return TensorDataset(text[:, :-1], text[:, 1:])


class SymbolLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.symbols = nn.Embedding(6, 16)
        self.lstm = nn.LSTM(16, 48, batch_first=True)
        self.next = nn.Linear(48, 6)

    def forward(self, text):
        return self.next(self.lstm(self.symbols(text))[0])


def loss(output, target):
    return cross_entropy(output.transpose(1, 2), target)


def clipped(case, batch):
    text, target = batch
    case.model.train()
    case.optimizer.zero_grad()
    value = case.loss(case.model(text), target)
    value.backward()
    nn.utils.clip_grad_norm_(case.model.parameters(), 0.25)
    case.optimizer.step()
    return value.detach()


def known_symbols(model, loader):
    hits = [(model(text).argmax(dim=2) == target)[:, 2:].float() for text, target in loader]
    return float(torch.cat(hits).mean())


def healthy(seed):
    torch.manual_seed(seed)
    model = SymbolLstm()
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=10),
        train=DataLoader(repeats(800), batch_size=20, shuffle=True),
        val=DataLoader(repeats(200), batch_size=200),
        epochs=12,
        score=known_symbols,
        step=clipped,
    )
