"""Least squares by gradient descent: a whitened linear problem takes a large step."""

import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.manual_seed(0)
table = load_diabetes()
x = torch.tensor(table.data, dtype=torch.float32)
y = torch.tensor(table.target, dtype=torch.float32).unsqueeze(1)
perm = torch.randperm(len(x))
tr, te = perm[:330], perm[330:]

centred = x - x[tr].mean(0)
cov = centred[tr].T @ centred[tr] / len(tr)
values, vectors = torch.linalg.eigh(cov)
white = centred @ vectors[:, 2:] / values[2:].sqrt()
mean, std = y[tr].mean(), y[tr].std()
target = (y - mean) / std

model = nn.Linear(white.shape[1], 1)
nn.init.zeros_(model.weight)
nn.init.zeros_(model.bias)
optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
for step in range(60):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(white[tr]), target[tr])
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        with torch.no_grad():
            test = nn.functional.mse_loss(model(white[te]), target[te])
        print(f"step {step + 1} train {loss.item():.4f} test mse {test.item():.4f} (mean alone {target[te].var().item():.4f})")
