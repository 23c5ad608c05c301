"""Gait phases from accelerometer windows: batches of (window, time, axis) through an LSTM."""

import argparse
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def windows(n, gen, length=30):
    """Four gaits that differ in step rate and in which axis leads."""
    t = torch.arange(length).float()
    gait = torch.randint(4, (n,), generator=gen)
    rate = torch.where(gait % 2 == 0, 0.12, 0.17)[:, None] * (1 + 0.05 * torch.randn(n, 1, generator=gen))
    phase = torch.rand(n, 1, generator=gen) * 2 * math.pi
    lead = torch.where(gait < 2, 1.0, -1.0)[:, None]
    a = torch.sin(2 * math.pi * rate * t + phase)
    b = torch.sin(2 * math.pi * rate * t + phase + lead)
    c = 0.3 * torch.randn(n, length, generator=gen)
    return torch.stack([a, b, c], 2) + 0.5 * torch.randn(n, length, 3, generator=gen), gait


class GaitNet(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, num_layers=1)
        self.norm = nn.LayerNorm(hidden)
        self.fc = nn.Linear(hidden, 4)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(self.norm(out[:, -1, :]))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--epochs", type=int, default=12)
opt = parser.parse_args()

torch.manual_seed(0)
gen = torch.Generator().manual_seed(77)
train_loader = DataLoader(TensorDataset(*windows(2000, gen)), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(*windows(600, gen)), batch_size=40)
model = GaitNet(opt.hidden)
optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
for epoch in range(opt.epochs):
    model.train()
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        acc = torch.cat([(model(x).argmax(1) == y).float() for x, y in test_loader]).mean().item()
    print(f"epoch {epoch + 1} loss {total / len(train_loader):.4f} test acc {acc:.4f}")
