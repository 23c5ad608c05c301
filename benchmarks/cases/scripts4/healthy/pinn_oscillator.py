"""A physics-informed network solves a damped oscillator: no data but the equation, L-BFGS after Adam."""

import torch
from torch import nn

torch.manual_seed(0)
DELTA, OMEGA = 1.0, 6.0


def exact(t):
    w = (OMEGA**2 - DELTA**2) ** 0.5
    return torch.exp(-DELTA * t) * (torch.cos(w * t) + DELTA / w * torch.sin(w * t))


class Field(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, t):
        return 1 + t**2 * self.net(2 * t - 1)


def residual(model, t):
    t = t.requires_grad_(True)
    u = model(t)
    (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), t, create_graph=True)
    return ((ddu + 2 * DELTA * du + OMEGA**2 * u) ** 2).mean() / OMEGA**2


def error(model):
    t = torch.linspace(0, 1, 200)[:, None]
    with torch.no_grad():
        return ((model(t) - exact(t)) ** 2).mean().item(), (exact(t) ** 2).mean().item()


model = Field()
points = torch.linspace(0, 1, 64)[:, None]
adam = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(300):
    adam.zero_grad()
    loss = residual(model, points)
    loss.backward()
    adam.step()
print(f"adam: residual {loss.item():.5f}, mean squared error {error(model)[0]:.6f}")

lbfgs = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=20, history_size=20, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    loss = residual(model, points)
    loss.backward()
    return loss


for round_ in range(12):
    loss = lbfgs.step(closure)
    mse, power = error(model)
    if round_ % 3 == 2:
        print(f"lbfgs {round_ + 1}: residual {loss.item():.6f}, mean squared error {mse:.6f} (of a zero curve {power:.4f})")
