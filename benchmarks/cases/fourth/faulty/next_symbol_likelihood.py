"""An LSTM that guesses the next symbol of a chain.

The symbols follow a chain in which the next one depends on the last two. The loss is written out by
hand as the mean log likelihood of the true symbol; the optimizer makes it small, that is, makes the
true symbols as unlikely as it can. The repair is the missing minus.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"gradient-ascent"}
WHERE = "loss"
PLACES = {"loss"}
SYMBOLS = 5


def chains(rows, length=10):
    x = torch.randint(0, SYMBOLS, (rows, length + 1))
    for t in range(2, length + 1):
        follow = (x[:, t - 1] + 2 * x[:, t - 2] + 1) % SYMBOLS
        x[:, t] = torch.where(torch.rand(rows) < 0.9, follow, x[:, t])
    return TensorDataset(x[:, :-1], x[:, -1])


class Guess(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 8)
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.out = nn.Linear(32, SYMBOLS)

    def forward(self, x):
        states, _ = self.lstm(self.embedding(x))
        return self.out(states[:, -1])


def log_likelihood(outputs, targets):
    return outputs.log_softmax(dim=1).gather(1, targets[:, None]).mean()


def negative_log_likelihood(outputs, targets):
    return -log_likelihood(outputs, targets)


def build(seed, loss):
    torch.manual_seed(seed)
    model = Guess()
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(chains(1000), batch_size=50, shuffle=True),
        val=DataLoader(chains(400), batch_size=400),
        epochs=20,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, log_likelihood)


def fixed(seed):
    return build(seed, negative_log_likelihood)
