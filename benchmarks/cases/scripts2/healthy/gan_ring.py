# GAN on a ring of 8 gaussians
import math
import torch
import torch.nn as nn

torch.manual_seed(7)
torch.set_num_threads(1)

BATCH = 256
ZDIM = 8
STEPS = 2500
centers = torch.tensor([[2 * math.cos(2 * math.pi * k / 8), 2 * math.sin(2 * math.pi * k / 8)] for k in range(8)])


def sample_real(n):
    k = torch.randint(0, 8, (n,))
    return centers[k] + 0.1 * torch.randn(n, 2)


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 96), nn.LeakyReLU(0.2), nn.Linear(96, 96), nn.LeakyReLU(0.2), nn.Linear(96, o))


G = mlp(ZDIM, 2)
D = mlp(2, 1)
opt_g = torch.optim.Adam(G.parameters(), lr=5e-4, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)


@torch.no_grad()
def quality(n=2000):
    s = G(torch.randn(n, ZDIM))
    d = torch.cdist(s, centers)
    near, which = d.min(1)
    good = near < 0.4
    return good.float().mean().item(), len(which[good].unique())


print("before training: close %.3f modes %d" % quality())
for step in range(1, STEPS + 1):
    real = sample_real(BATCH)
    fake = G(torch.randn(BATCH, ZDIM))

    d_loss = bce(D(real), ones) + bce(D(fake.detach()), zeros)
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = bce(D(fake), ones)
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()

    if step % 250 == 0:
        frac, modes = quality()
        print(f"step {step:5d} d_loss {d_loss.item():.3f} g_loss {g_loss.item():.3f} close {frac:.3f} modes {modes}")
