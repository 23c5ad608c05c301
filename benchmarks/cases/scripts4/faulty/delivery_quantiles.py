"""Delivery times promised with nine in ten kept: quantile regression."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def pinball(pred, target, q):
    error = pred - target
    return torch.maximum(q * error, (q - 1) * error).mean()


def deliveries(n, gen):
    km = torch.rand(n, 1, generator=gen) * 2 - 1
    load = torch.rand(n, 1, generator=gen) * 2 - 1
    skew = torch.distributions.Exponential(1.0).sample((n, 1))
    minutes = 30 + 12 * km + 6 * load**2 + (3 + 2 * load) * skew
    return torch.cat([km, load], 1) * 1.73, minutes


class QuantileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.heads = nn.Linear(48, len(QUANTILES))

    def forward(self, x):
        return self.heads(self.body(x))


torch.manual_seed(9)
gen = torch.Generator().manual_seed(9)
xtr, ytr = deliveries(3000, gen)
xte, yte = deliveries(1500, gen)
mean, std = ytr.mean(), ytr.std()
loader = DataLoader(TensorDataset(xtr, (ytr - mean) / std), batch_size=60, shuffle=True)
model = QuantileNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(16):
    model.train()
    total = 0.0
    for x, y in loader:
        loss = pinball(model(x), y, QUANTILES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        pred = model(xte) * std + mean
        kept = (yte <= pred).float().mean(0)
    if epoch % 4 == 3:
        gap = (kept - QUANTILES).abs().mean()
        print(f"epoch {epoch + 1} loss {total / len(loader):.4f} promises kept {[round(k, 3) for k in kept.tolist()]} calibration gap {gap:.4f}")
