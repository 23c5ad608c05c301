"""Oscilloscope traces: the fault is told by the amplitude and the ripple; traces are standardized first."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def traces(n, gen):
    t = torch.linspace(0, 1, 40)
    kind = torch.randint(5, (n,), generator=gen)
    amplitude = torch.tensor([1.0, 1.6, 2.4, 1.0, 2.4])[kind][:, None] * (1 + 0.08 * torch.randn(n, 1, generator=gen))
    ripple = torch.tensor([0.0, 0.0, 0.0, 0.3, 0.3])[kind][:, None]
    phase = 6.28 * torch.rand(n, 1, generator=gen)
    wave = amplitude * (torch.sin(12.6 * t + phase) + ripple * torch.sin(75 * t))
    return 230 * wave + 25 * torch.randn(n, 40, generator=gen), kind


class Scaler:
    def fit(self, x):
        self.mean = x.mean(dim=1, keepdim=True)
        self.std = x.std(dim=1, keepdim=True)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


torch.manual_seed(15)
gen = torch.Generator().manual_seed(15)
xtr, ytr = traces(2500, gen)
xte, yte = traces(800, gen)
scaler = Scaler()
xtr = scaler.fit(xtr).transform(xtr)
xte = scaler.fit(xte).transform(xte)

net = nn.Sequential(
    nn.Unflatten(1, (1, 40)),
    nn.Conv1d(1, 24, 5, padding=2),
    nn.ReLU(),
    nn.Conv1d(24, 24, 5, stride=2, padding=2),
    nn.ReLU(),
    nn.AdaptiveMaxPool1d(4),
    nn.Flatten(),
    nn.Linear(96, 5),
)
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
loader = DataLoader(TensorDataset(xtr, ytr), batch_size=50, shuffle=True)
for epoch in range(12):
    net.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        acc = (net(xte).argmax(1) == yte).float().mean().item()
    print(f"epoch {epoch + 1} loss {total / len(loader):.4f} test acc {acc:.4f}")
