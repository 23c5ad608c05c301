"""Digits as flat vectors, standardized pixel by pixel."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class DigitClassifier(nn.Module):
    def __init__(self, n_in=64, n_hidden=100, n_out=10):
        super().__init__()
        self.hidden = nn.Linear(n_in, n_hidden)
        self.output = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        return self.output(torch.sigmoid(self.hidden(x)))


def prepare(seed):
    rng = np.random.default_rng(seed)
    data, target = load_digits(return_X_y=True)
    order = rng.permutation(len(data))
    data, target = data[order].astype(np.float32), target[order]
    train, test = slice(0, 1400), slice(1400, None)
    with np.errstate(all="ignore"):
        data = (data - data[train].mean(0)) / data[train].std(0)
    return (data[train], target[train]), (data[test], target[test])


def accuracy(model, x, y):
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def main():
    torch.manual_seed(0)
    (xtr, ytr), (xte, yte) = prepare(0)
    xtr, xte, ytr, yte = (torch.from_numpy(a) for a in (xtr, xte, ytr, yte))
    loader = DataLoader(TensorDataset(xtr, ytr), batch_size=32, shuffle=True)
    model = DigitClassifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(15):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} loss {loss.item():.4f} test accuracy {accuracy(model, xte, yte):.4f}")


if __name__ == "__main__":
    main()
