"""Machine states from vibration signals: a 1-d convolutional network with batch norm."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 2
ACCUMULATE = 16


def signals(n, seed, length=64):
    rng = np.random.default_rng(seed)
    state = rng.integers(0, 5, n)
    t = np.arange(length) / length
    freq = np.array([3, 5, 7, 9, 12])[state][:, None] + rng.normal(0, 0.4, (n, 1))
    amp = rng.lognormal(0, 0.4, (n, 1))
    x = amp * np.sin(2 * np.pi * (freq * t + rng.random((n, 1)))) + 0.6 * rng.standard_normal((n, length))
    return TensorDataset(torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(state))


class StateNet(nn.Module):
    def __init__(self, w=24):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv1d(1, w, 9, padding=4), nn.BatchNorm1d(w), nn.ReLU(), nn.MaxPool1d(2))
        self.block2 = nn.Sequential(nn.Conv1d(w, w, 5, padding=2), nn.BatchNorm1d(w), nn.ReLU(), nn.MaxPool1d(2))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4 * w, 48), nn.BatchNorm1d(48), nn.ReLU())
        self.deep = nn.Sequential(nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU())
        self.classify = nn.Linear(48, 5)

    def forward(self, x):
        return self.classify(self.deep(self.squeeze(self.block2(self.block1(x)))))


def fit(epochs=6):
    torch.manual_seed(0)
    train = DataLoader(signals(1600, 0), batch_size=BATCH, shuffle=True)
    test = DataLoader(signals(500, 1), batch_size=250)
    model = StateNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        model.train()
        running = 0.0
        for i, (x, y) in enumerate(train, start=1):
            loss = criterion(model(x), y)
            (loss / ACCUMULATE).backward()
            if i % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()
            running += loss.item()
        model.eval()
        hits = 0
        with torch.no_grad():
            for x, y in test:
                hits += (model(x).argmax(1) == y).sum().item()
        print(f"Epoch {epoch}: loss = {running / len(train):.4f}, accuracy = {hits / 500:.4f}")


fit()
