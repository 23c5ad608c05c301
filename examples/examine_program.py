"""The doctor on a program with a fault: what is wrong, where, and what mends it.

python examples/examine_program.py
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import levelhead as lh

torch.manual_seed(0)
x = torch.randn(700, 8)
y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] > 0).long()
x = 128 + 40 * x  # as bytes would come


def loader(rows: slice, shuffle: bool = False) -> DataLoader:
    return DataLoader(TensorDataset(x[rows], y[rows]), batch_size=50, shuffle=shuffle)


model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
program = lh.Program(
    model, nn.CrossEntropyLoss(), optimizer, train=loader(slice(0, 500), True), val=loader(slice(500, 700)), epochs=15
)

examination = lh.examine(program)
print(examination)
assert examination.findings[0].cause == "inputs-not-normalized"

treated = examination.treat(budget=10)
print(treated)
