"""Pipe leaks are rare: a weighted sampler balances the classes."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler


def pipes(n, gen):
    x = torch.randn(n, 12, generator=gen)
    score = x[:, 0] + x[:, 1] * x[:, 2] + 0.7 * x[:, 3] ** 2 + 0.3 * torch.randn(n, generator=gen)
    return x, (score > 2.9).long()


def balanced_accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        pred = model(x).argmax(1)
    return sum(((pred == c) & (y == c)).sum() / (y == c).sum() for c in (0, 1)).item() / 2


torch.manual_seed(2)
gen = torch.Generator().manual_seed(2)
xtr, ytr = pipes(4000, gen)
xte, yte = pipes(2000, gen)
counts = torch.bincount(ytr)
print("class counts", counts.tolist())

class_weights = 1.0 / counts.float()
sampler = WeightedRandomSampler(class_weights, num_samples=len(ytr), replacement=True)
loader = DataLoader(TensorDataset(xtr, ytr), batch_size=64, sampler=sampler)

model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for epoch in range(15):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} loss {total / len(loader):.4f} balanced accuracy {balanced_accuracy(model, xte, yte):.4f}")
