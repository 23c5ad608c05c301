"""Fit peaks of a spectrum with a small sine network and L-BFGS, full batch."""
import numpy as np
import torch
from torch import nn

torch.manual_seed(1)
rng = np.random.default_rng(1)


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


wavelength = np.sort(rng.uniform(400, 700, 260))
signal = np.exp(-(((wavelength - 470) / 18) ** 2)) + 0.6 * np.exp(-(((wavelength - 590) / 30) ** 2)) + 0.2 * np.sin(wavelength / 25)
signal = signal + 0.02 * rng.standard_normal(len(wavelength))
x = torch.tensor((wavelength - 550) / 87, dtype=torch.float32)[:, None]
y = torch.tensor((signal - signal.mean()) / signal.std(), dtype=torch.float32)[:, None]
held = torch.zeros(len(x), dtype=torch.bool)
held[::5] = True

net = nn.Sequential(nn.Linear(1, 32), Sine(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
with torch.no_grad():
    net[0].weight.mul_(4.0)
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=10, history_size=20)
mse = nn.MSELoss()


def closure():
    optimizer.zero_grad()
    loss = mse(net(x[~held]), y[~held])
    loss.backward()
    return loss


for outer in range(40):
    loss = optimizer.step(closure)
    if outer % 10 == 9:
        with torch.no_grad():
            test = mse(net(x[held]), y[held]).item()
        print(f"outer {outer} loss {float(loss):.5f} held-out mse {test:.5f}")
