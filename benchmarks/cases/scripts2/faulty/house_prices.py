"""Predict simulated house prices from a few attributes."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def simulate(n, rng):
    area = rng.normal(120, 35, n).clip(30, 300)
    rooms = (area / 28 + rng.normal(0, 0.7, n)).round().clip(1, 10)
    age = rng.uniform(0, 80, n)
    dist = rng.exponential(6, n)
    price = 1500 * area * np.exp(-0.05 * dist) + 9000 * rooms - 700 * age + 60000 + rng.normal(0, 8000, n)
    return np.stack([area, rooms, age, dist], 1), price


class PriceNet(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        return self.net(x)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, price = simulate(3000, rng)
    mean, std = X[:2400].mean(0), X[:2400].std(0)
    X = torch.tensor((X - mean) / std, dtype=torch.float32)
    y = torch.tensor(price, dtype=torch.float32).unsqueeze(1)
    train = DataLoader(TensorDataset(X[:2400], y[:2400]), batch_size=64, shuffle=True)
    x_test, y_test = X[2400:], y[2400:]

    model = PriceNet(X.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.MSELoss()
    for epoch in range(30):
        model.train()
        total = 0.0
        for xb, yb in train:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(xb)
        if (epoch + 1) % 3 == 0:
            model.eval()
            with torch.no_grad():
                pred = model(x_test)
                r2 = 1 - ((pred - y_test) ** 2).mean() / y_test.var()
            print(f"epoch {epoch + 1:3d} loss {total / 2400:.6g} test R2 {r2.item():.4f}")


if __name__ == "__main__":
    main()
