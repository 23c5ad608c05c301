"""A GAN on eight Gaussians around a circle: two networks, two optimizers."""

import math

import torch
from torch import nn

torch.manual_seed(0)
LATENT = 8


def real(count):
    angle = torch.randint(8, (count,)) * (2 * math.pi / 8)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(LATENT, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
        )

    def forward(self, x):
        return self.net(x)


netG, netD = Generator(), Discriminator()
optG = torch.optim.Adam(netG.parameters(), lr=1e-3, betas=(0.5, 0.999))
optD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.999))
criterion = nn.BCEWithLogitsLoss()

for step in range(600):
    x = real(64)
    fake = netG(torch.randn(64, LATENT))

    optD.zero_grad()
    out_real, out_fake = netD(x), netD(fake.detach())
    loss_d = criterion(out_real, torch.ones_like(out_real)) + criterion(out_fake, torch.zeros_like(out_fake))
    loss_d.backward()
    optD.step()

    optG.zero_grad()
    out = netD(fake)
    loss_g = criterion(out, torch.ones_like(out))
    loss_g.backward()
    optG.step()
    if step % 100 == 0:
        with torch.no_grad():
            radius = netG(torch.randn(512, LATENT)).norm(dim=1)
        print(f"{step}: D {loss_d.item():.3f} G {loss_g.item():.3f} radius {radius.mean():.3f}")
