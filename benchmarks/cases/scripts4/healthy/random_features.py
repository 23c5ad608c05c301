"""Random Fourier features, never trained, and a readout that is: a stream is read once, in the order it comes."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Stream(IterableDataset):
    def __init__(self, n, seed):
        self.n, self.seed = n, seed

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed)
        for _ in range(self.n):
            x = torch.rand(2, generator=g) * 2 - 1
            inside = (x.norm() < 0.75) ^ (x[0] * x[1] > 0.12)
            yield x, inside.float()


class RandomFeatures(nn.Module):
    def __init__(self, features=400, scale=4.0):
        super().__init__()
        self.project = nn.Linear(2, features)
        nn.init.normal_(self.project.weight, std=scale)
        nn.init.uniform_(self.project.bias, 0, 2 * math.pi)
        self.project.requires_grad_(False)
        self.readout = nn.Linear(features, 1)
        nn.init.zeros_(self.readout.weight)

    def forward(self, x):
        z = math.sqrt(2) * torch.cos(self.project(x))
        return self.readout(z).squeeze(1)


torch.manual_seed(0)
model = RandomFeatures()
optimizer = torch.optim.SGD(model.readout.parameters(), lr=0.02)
criterion = nn.BCEWithLogitsLoss()
test = next(iter(DataLoader(Stream(2000, 2), batch_size=2000)))
smooth = 0.69
for step, (x, y) in enumerate(DataLoader(Stream(40000, 1), batch_size=20), 1):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    smooth = 0.99 * smooth + 0.01 * loss.item()
    if step % 400 == 0:
        with torch.no_grad():
            acc = ((model(test[0]) > 0) == test[1].bool()).float().mean()
        print(f"step {step} smoothed loss {smooth:.4f} test acc {acc:.4f} (majority {max(test[1].mean(), 1 - test[1].mean()):.4f})")
