"""Blood pressure from a pulse wave, one channel a sample, with a small transformer."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def pulses(n, gen, length=32):
    t = torch.arange(length).float() / length
    height = 0.6 + 0.8 * torch.rand(n, 1, generator=gen)
    width = 0.05 + 0.1 * torch.rand(n, 1, generator=gen)
    notch = torch.rand(n, 1, generator=gen)
    wave = height * (torch.exp(-(((t - 0.3) / width) ** 2)) + notch * 0.5 * torch.exp(-(((t - 0.6) / 0.08) ** 2)))
    pressure = 60 * height + 200 * width - 15 * notch
    return (wave + 0.03 * torch.randn(n, length, generator=gen) - 0.35).unsqueeze(-1) / 0.4, pressure


class PulseFormer(nn.Module):
    def __init__(self, dim=32, length=32):
        super().__init__()
        self.norm_in = nn.LayerNorm(1)
        self.lift = nn.Linear(1, dim)
        self.place = nn.Parameter(0.1 * torch.randn(length, dim))
        self.block = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.norm_out = nn.LayerNorm(dim)
        self.read = nn.Linear(dim, 1)

    def forward(self, x):
        x = self.lift(self.norm_in(x)) + self.place
        return self.read(self.norm_out(self.block(x)).mean(1))


def main():
    torch.manual_seed(2)
    gen = torch.Generator().manual_seed(2)
    xtr, ptr = pulses(1600, gen)
    xte, pte = pulses(500, gen)
    mean, std = ptr.mean(), ptr.std()
    loader = DataLoader(TensorDataset(xtr, (ptr - mean) / std), batch_size=40, shuffle=True)
    model = PulseFormer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    warm = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / 40) * 0.5 * (1 + math.cos(math.pi * min(s / 400, 1.0)))
    )
    for epoch in range(10):
        model.train()
        total = 0.0
        for x, p in loader:
            loss = nn.functional.mse_loss(model(x), p)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            rmse = ((model(xte) * std + mean - pte) ** 2).mean().sqrt().item()
        print(f"epoch {epoch + 1} train {total / len(loader):.4f} test rmse {rmse:.2f} mmHg (spread {pte.std():.2f})")


main()
