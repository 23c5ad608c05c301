"""Metric learning with batch-hard triplets on the digits, judged by nearest neighbours on held-out images."""

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(13)


class Embed(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, dim))

    def forward(self, x):
        return self.net(x)


def pairwise(a):
    square = (a**2).sum(1)
    d2 = square[:, None] - 2 * a @ a.T + square[None]
    return d2.clamp(min=0).sqrt()


def batch_hard(z, y, margin=0.5):
    d = pairwise(z)
    same = y[:, None] == y[None]
    far = (d * same).max(1).values
    near = (d + 1e3 * same).min(1).values
    return torch.relu(far - near + margin).mean()


def sample(y, per_class=6):
    return torch.cat([torch.where(y == c)[0][torch.randperm(int((y == c).sum()))[:per_class]] for c in range(10)])


def nearest_neighbour(model, xtr, ytr, xte, yte):
    model.eval()
    with torch.no_grad():
        d = torch.cdist(model(xte), model(xtr))
    return (ytr[d.argmin(1)] == yte).float().mean().item()


digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
noise = torch.randn(64, 8)
x = x + torch.randn(len(x), 8) @ noise.T * 0.25
perm = torch.randperm(len(x))
xtr, ytr, xte, yte = x[perm[:1300]], y[perm[:1300]], x[perm[1300:]], y[perm[1300:]]

model = Embed()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(600):
    model.train()
    idx = sample(ytr)
    loss = batch_hard(model(xtr[idx]), ytr[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 99:
        print(f"step {step + 1} loss {loss.item():.4f} nearest neighbour acc {nearest_neighbour(model, xtr, ytr, xte, yte):.4f}")
