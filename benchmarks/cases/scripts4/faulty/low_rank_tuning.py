"""Low-rank adaptation: a network for one instrument is frozen and adapted to another by rank-4 updates."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class LoRALinear(nn.Module):
    def __init__(self, base, rank=4, alpha=8):
        super().__init__()
        self.base = base
        for p in self.base.parameters():
            p.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.zeros(rank, base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_a.T @ self.lora_b.T)


def spectra(n, rotation, gen):
    x = torch.randn(n, 12, generator=gen)
    turned = x @ rotation
    y = torch.tanh(turned[:, :4]).sum(1) + turned[:, 4] * turned[:, 5]
    return x, (y[:, None] + 0.1 * torch.randn(n, 1, generator=gen)) / 1.7


def turned(angle):
    r = torch.eye(12)
    c, s = math.cos(angle), math.sin(angle)
    for i, j in ((0, 6), (4, 7)):
        r[i, i], r[j, j], r[i, j], r[j, i] = c, c, -s, s
    return r


def fit(model, data, epochs, lr, held_out):
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(params, lr=lr)
    loader = DataLoader(data, batch_size=50, shuffle=True)
    for epoch in range(epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            test = nn.functional.mse_loss(model(held_out[0]), held_out[1]).item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1} train {loss.item():.4f} test mse {test:.4f}")


torch.manual_seed(20)
gen = torch.Generator().manual_seed(20)
model = nn.Sequential(nn.Linear(12, 96), nn.GELU(), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 1))
fit(model, TensorDataset(*spectra(2000, turned(0.0), gen)), 10, 3e-3, spectra(500, turned(0.0), gen))

print("adapting")
for i in (0, 2, 4):
    model[i] = LoRALinear(model[i])
fit(model, TensorDataset(*spectra(1500, turned(0.9), gen)), 25, 3e-3, spectra(500, turned(0.9), gen))
