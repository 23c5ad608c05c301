"""Denoising pairs kept in two data sets, one of noisy and one of clean curves."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def curves(n):
    t = torch.linspace(0, 6.283, 40)
    a, b, c = torch.rand(3, n, 1)
    clean = torch.sin((1 + 2 * a) * t + 6 * b) * (0.5 + c)
    return clean + 0.5 * torch.randn(n, 40), clean


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 12))
        self.up = nn.Sequential(nn.ReLU(), nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 40))

    def forward(self, x):
        return self.up(self.down(x))


def main():
    torch.manual_seed(14)
    noisy, clean = curves(3000)
    noisy_test, clean_test = curves(600)
    inputs = DataLoader(TensorDataset(noisy), batch_size=60, shuffle=True)
    targets = DataLoader(TensorDataset(clean), batch_size=60, shuffle=True)
    model = Denoiser()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.MSELoss()
    for epoch in range(25):
        model.train()
        total = 0.0
        for (x,), (y,) in zip(inputs, targets, strict=True):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            test = loss_fn(model(noisy_test), clean_test).item()
        if epoch % 5 == 4:
            raw = loss_fn(noisy_test, clean_test).item()
            print(f"epoch {epoch + 1} train mse {total / len(inputs):.4f} raw noise {raw:.4f} test mse {test:.4f}")


main()
