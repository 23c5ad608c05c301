"""Bike hire an hour, from the weather and from the station (an embedding)."""
import argparse

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def make_table(n, seed):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame({
        "station": rng.integers(0, 12, n),
        "hour": rng.integers(0, 24, n),
        "temp": rng.normal(14, 8, n),
        "pressure_pa": rng.normal(101300, 900, n),
        "traffic": rng.gamma(3, 400, n),
    })
    popular = np.random.default_rng(99).normal(0, 1, 12)[df.station]
    commute = np.exp(-((df.hour - 8) ** 2) / 6) + np.exp(-((df.hour - 17) ** 2) / 8)
    df["hires"] = 3 * commute + 0.08 * df.temp + popular + (df.pressure_pa - 101300) / 1500 - df.traffic / 1200
    df["hires"] += rng.normal(0, 0.3, n)
    return df


NUMERIC = ["hour", "temp", "pressure_pa", "traffic"]


class HireNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.station = nn.Embedding(12, 6)
        self.mlp = nn.Sequential(nn.Linear(6 + len(NUMERIC), 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, numbers, station):
        return self.mlp(torch.cat([numbers, self.station(station)], dim=1))[:, 0]


def to_dataset(df, mean, std):
    z = df[NUMERIC]
    return TensorDataset(
        torch.tensor(z.to_numpy(), dtype=torch.float32), torch.tensor(df["station"].to_numpy()), torch.tensor(df["hires"].to_numpy(), dtype=torch.float32)
    )


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=15)
    ap.add_argument("--lr", type=float, default=2e-3)
    args = ap.parse_args()
    torch.manual_seed(0)
    train, val = make_table(3000, 0), make_table(800, 1)
    mean, std = train[NUMERIC].mean(), train[NUMERIC].std()
    train_loader = DataLoader(to_dataset(train, mean, std), batch_size=64, shuffle=True)
    numbers, station, hires = to_dataset(val, mean, std).tensors
    model = HireNet()
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        for a, b, y in train_loader:
            loss = nn.functional.mse_loss(model(a, b), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            r2 = 1 - ((model(numbers, station) - hires) ** 2).mean() / hires.var()
        print(f"{epoch}: loss {loss.item():.4f} val r2 {r2.item():.4f}")


main()
