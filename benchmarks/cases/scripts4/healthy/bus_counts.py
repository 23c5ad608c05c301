"""Passenger counts by Poisson regression with an exposure: the loss starts high, as counts are large."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def stops(n, gen):
    hour = torch.rand(n, generator=gen) * 24
    line = torch.randint(5, (n,), generator=gen)
    minutes = torch.rand(n, generator=gen) * 50 + 10
    rush = torch.exp(-(((hour - 8) / 1.5) ** 2)) + torch.exp(-(((hour - 17.5) / 2) ** 2))
    per_minute = torch.exp(torch.tensor([0.2, -0.5, 0.8, 0.0, 1.2])[line] + 1.3 * rush - 0.5)
    x = torch.stack([torch.sin(hour * math.pi / 12), torch.cos(hour * math.pi / 12)], 1)
    x = torch.cat([x, torch.sin(2 * x * math.pi), nn.functional.one_hot(line, 5).float()], 1)
    return x, minutes.log(), torch.poisson(per_minute * minutes, generator=gen)


class Rate(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 1))

    def forward(self, x, log_exposure):
        return self.net(x).squeeze(1) + log_exposure


def deviance(log_mu, y):
    mu = log_mu.exp()
    return 2 * (torch.xlogy(y, y / mu) - (y - mu)).mean().item()


torch.manual_seed(4)
gen = torch.Generator().manual_seed(4)
loader = DataLoader(TensorDataset(*stops(3000, gen)), batch_size=64, shuffle=True)
xte, ete, yte = stops(1000, gen)
model = Rate()
criterion = nn.PoissonNLLLoss(log_input=True, full=True)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
flat = deviance(torch.log(yte.sum() / ete.exp().sum()) + ete, yte)
for epoch in range(15):
    model.train()
    total = 0.0
    for x, e, y in loader:
        loss = criterion(model(x, e), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        dev = deviance(model(xte, ete), yte)
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} loss {total / len(loader):.3f} test deviance {dev:.3f} (one rate for all {flat:.3f})")
