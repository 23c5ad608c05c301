"""Watches a loop as it stands: one line around it, and what is wrong is said in words.

python examples/watch_a_loop.py
"""

import torch
from torch import nn

import levelhead as lh

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, :10].sum(1) > x[:, 10:].sum(1)).long()
model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

with lh.watch(model, optimizer) as watch:
    for _ in range(5):
        for rows in torch.randperm(512).split(32):
            # The fault: no optimizer.zero_grad().
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()

print(watch)
