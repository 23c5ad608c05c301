"""A recurrent digit reader that is trained to output the digit's number.

A GRU reads the eight rows of an 8x8 digit and a linear layer with one output gives the class number
0..9, compared with the true one by the squared error; the answer is the nearest whole number. Between 3
and 8 the loss asks for a 5 or 6, though digits have no order. The repair is one output for each class
and the cross-entropy.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-mismatch"}
WHERE = "loss"


class RowReader(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.rnn = nn.GRU(8, 24, batch_first=True)
        self.output = nn.Linear(24, outputs)

    def forward(self, x):
        _, last = self.rnn(x)
        return self.output(last[-1])


def squared_error(output, labels):
    return nn.functional.mse_loss(output.squeeze(1), labels.float())


def rounded_accuracy(model, loader):
    hits = [model(x).squeeze(1).round().long() == y for x, y in loader]
    return float(torch.cat(hits).float().mean())


def build(seed, outputs, loss, score):
    torch.manual_seed(seed)
    model = RowReader(outputs)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1300], order[1300:]
    return Case(
        model=model,
        loss=loss,
        optimizer=torch.optim.RMSprop(model.parameters(), lr=0.004),
        train=DataLoader(TensorDataset(x[train], y[train]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=497),
        epochs=12,
        score=score,
    )


def faulty(seed):
    return build(seed, 1, squared_error, rounded_accuracy)


def fixed(seed):
    return build(seed, 10, nn.CrossEntropyLoss(), accuracy)
