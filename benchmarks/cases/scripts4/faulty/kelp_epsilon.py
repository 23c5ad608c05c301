"""Kelp cover from reflectances; the optimizer's settings are those of a published image model."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1.0, "weight_decay": 0.0}


def reflectances(n, gen):
    depth = torch.rand(n, generator=gen)
    cover = torch.rand(n, generator=gen) ** 2
    bands = torch.linspace(0.4, 0.9, 10)
    signal = cover[:, None] * torch.sigmoid((bands - 0.7) * 30) + (1 - cover[:, None]) * torch.exp(-3 * depth[:, None] * bands)
    x = signal + 0.02 * torch.randn(n, 10, generator=gen)
    return x, torch.logit(cover.clamp(0.01, 0.99))[:, None]


class KelpNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(10, 64), nn.Linear(64, 64), nn.Linear(64, 1)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = nn.functional.leaky_relu(layer(x))
        return self.layers[-1](x)


torch.manual_seed(6)
gen = torch.Generator().manual_seed(6)
xtr, ytr = reflectances(3000, gen)
xte, yte = reflectances(1000, gen)
mx, sx, my, sy = xtr.mean(0), xtr.std(0), ytr.mean(), ytr.std()
xtr, xte, ytr, yte = (xtr - mx) / sx, (xte - mx) / sx, (ytr - my) / sy, (yte - my) / sy
loader = DataLoader(TensorDataset(xtr, ytr), batch_size=64, shuffle=True)
model = KelpNet()
optimizer = torch.optim.Adam(model.parameters(), **SETTINGS)
for epoch in range(20):
    total = 0.0
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        test = nn.functional.mse_loss(model(xte), yte).item()
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} train {total / len(loader):.4f} test mse {test:.4f}")
