"""Fitting a curve with L-BFGS: a closure, full batches."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.linspace(-3, 3, 200).unsqueeze(1)
y = torch.sin(2 * x) + 0.3 * x + 0.02 * torch.randn_like(x)
x_test = torch.linspace(-2.9, 2.9, 77).unsqueeze(1)
y_test = torch.sin(2 * x_test) + 0.3 * x_test

net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=10, history_size=20, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = ((net(x) - y) ** 2).mean()
    loss.backward()
    return loss


for iteration in range(30):
    loss = optimizer.step(closure)
    with torch.no_grad():
        test_mse = ((net(x_test) - y_test) ** 2).mean().item()
    print(f"{iteration}: train {loss.item():.5f} test {test_mse:.5f}")
