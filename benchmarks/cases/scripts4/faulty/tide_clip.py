"""Next value of a tide gauge with a GRU; gradients clipped for safety."""

import math

import torch
from torch import nn

CLIP = 1e-3
WINDOW = 24


def gauge(n):
    t = torch.arange(n, dtype=torch.float32)
    level = torch.sin(2 * math.pi * t / 12.42) + 0.5 * torch.sin(2 * math.pi * t / 24 + 1) + 0.2 * torch.sin(t / 160)
    return level + 0.05 * torch.randn(n)


class Forecaster(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


torch.manual_seed(0)
series = gauge(3000)
series = (series - series[:2400].mean()) / series[:2400].std()
windows = series.unfold(0, WINDOW + 1, 1)
x, y = windows[:, :-1].unsqueeze(-1), windows[:, -1:]
xtr, ytr, xte, yte = x[:2350], y[:2350], x[2400:], y[2400:]

model = Forecaster()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
mse = nn.MSELoss()
for epoch in range(12):
    model.train()
    for idx in torch.randperm(len(xtr)).split(50):
        optimizer.zero_grad()
        loss = mse(model(xtr[idx]), ytr[idx])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        test = mse(model(xte), yte).item()
    print(f"epoch {epoch + 1} train {loss.item():.4f} test mse {test:.4f}  (persistence {mse(xte[:, -1], yte).item():.4f})")
