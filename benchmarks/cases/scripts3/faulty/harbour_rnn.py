"""Next value of a tide-like series, by a recurrent cell written by hand."""
import numpy as np
import torch
from torch import nn


def tide(n=1600, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    level = 2.0 * np.sin(2 * np.pi * t / 24.8) + 0.8 * np.sin(2 * np.pi * t / 12.4 + 1) + 0.6 * np.sin(2 * np.pi * t / 77)
    return (5 + level + 0.15 * rng.standard_normal(n)).astype(np.float32)


def windows(series, length):
    w = np.lib.stride_tricks.sliding_window_view(series, length + 1)
    return torch.tensor(w[:, :-1].copy()).unsqueeze(-1), torch.tensor(w[:, -1].copy())


class ElmanCell(nn.Module):
    def __init__(self, inputs, hidden):
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(inputs, hidden))
        self.w_rec = nn.Parameter(torch.randn(hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, x, h):
        return torch.tanh(x @ self.w_in + h @ self.w_rec + self.bias)


class Forecaster(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.hidden = hidden
        self.cell = ElmanCell(1, hidden)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.readout(h).squeeze(1)


def run(length=30, epochs=14, batch=64):
    torch.manual_seed(6)
    series = tide()
    cut = 1200
    mean, std = series[:cut].mean(), series[:cut].std()
    series = (series - mean) / std
    xa, ya = windows(series[:cut], length)
    xb, yb = windows(series[cut:], length)
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.MSELoss()
    for epoch in range(epochs):
        model.train()
        for i in torch.randperm(len(xa)).split(batch):
            optimizer.zero_grad()
            loss = loss_fn(model(xa[i]), ya[i])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if epoch % 2:
            model.eval()
            with torch.no_grad():
                print(f"epoch {epoch} train {loss.item():.4f} test mse {loss_fn(model(xb), yb).item():.4f}")


if __name__ == "__main__":
    run()
