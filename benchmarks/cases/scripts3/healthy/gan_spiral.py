"""GAN for a curve in the plane; score = sliced Wasserstein distance to fresh data."""
import math

import torch
from torch import nn

torch.manual_seed(2)
Z, BATCH, STEPS = 8, 128, 2000


def real(n):
    t = 2.5 * math.pi * torch.rand(n).sqrt()
    return torch.stack([t.cos(), t.sin()], 1) * (t / 6)[:, None] + 0.03 * torch.randn(n, 2)


class Generator(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.inp = nn.Linear(Z, h)
        self.mid = nn.Linear(h, h)
        self.out = nn.Linear(h, 2)

    def forward(self, z):
        h = nn.functional.leaky_relu(self.inp(z), 0.1)
        h = nn.functional.leaky_relu(self.mid(h), 0.1)
        return self.out(h)


class Critic(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Linear(2, h), nn.LeakyReLU(0.2), nn.Linear(h, h), nn.LeakyReLU(0.2), nn.Linear(h, 1)
        )

    def forward(self, x):
        return self.stack(x).squeeze(1)


@torch.no_grad()
def distance(n=1024):
    a, b = real(n), G(torch.randn(n, Z))
    dirs = nn.functional.normalize(torch.randn(2, 32), dim=0)
    return ((a @ dirs).sort(0).values - (b @ dirs).sort(0).values).abs().mean().item()


G, D = Generator(), Critic()
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.99))
opt_g = torch.optim.Adam(G.parameters(), lr=5e-4, betas=(0.5, 0.99))
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(BATCH), torch.zeros(BATCH)

for step in range(1, STEPS + 1):
    fake = G(torch.randn(BATCH, Z))
    d_loss = bce(D(real(BATCH)), 0.9 * ones) + bce(D(fake.detach()), zeros)
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = bce(D(fake), ones)
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()

    if step % 400 == 0:
        print(f"{step} d {d_loss.item():.3f} g {g_loss.item():.3f} distance {distance():.4f}")
