"""A training program with a fault, as one meets it: pixels of 0 to 255 go straight into a stack of sigmoids.

python examples/examine_raw_inputs.py
levelhead examine examples/examine_raw_inputs.py:build --html report.html
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import levelhead as lh


def build() -> lh.Program:
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data * 255 / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 10))
    return lh.Program(
        model,
        nn.CrossEntropyLoss(),
        torch.optim.Adam(model.parameters(), lr=0.01),
        train=DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True),
        val=DataLoader(TensorDataset(x[1400:], y[1400:]), batch_size=256),
        epochs=4,
    )


if __name__ == "__main__":
    examination = lh.examine(build(), budget=15)
    print(examination)
