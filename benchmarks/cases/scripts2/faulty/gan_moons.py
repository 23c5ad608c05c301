import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(0)
torch.set_num_threads(1)

NOISE, BATCH, ITERS = 4, 128, 1000
data = torch.tensor(make_moons(4000, noise=0.05, random_state=0)[0], dtype=torch.float32)
data = (data - data.mean(0)) / data.std(0)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(NOISE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.net(x)


gen, disc = Generator(), Discriminator()
g_opt = torch.optim.Adam(gen.parameters(), lr=1e-3, betas=(0.5, 0.99))
d_opt = torch.optim.Adam(disc.parameters(), lr=1e-3, betas=(0.5, 0.99))
criterion = nn.BCEWithLogitsLoss()
real_label, fake_label = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)


def chamfer(n=1000):
    """Mean distance from real points to their nearest generated point and back."""
    with torch.no_grad():
        d = torch.cdist(data[:n], gen(torch.randn(n, NOISE)))
    return (d.min(0).values.mean() + d.min(1).values.mean()).item()


print(f"untrained chamfer {chamfer():.3f}")
for it in range(1, ITERS + 1):
    real = data[torch.randint(0, len(data), (BATCH,))]
    fake = gen(torch.randn(BATCH, NOISE)).detach()

    d_opt.zero_grad()
    d_loss = criterion(disc(real), real_label) + criterion(disc(fake), fake_label)
    d_loss.backward()
    d_opt.step()

    g_opt.zero_grad()
    g_loss = criterion(disc(fake), real_label)
    g_loss.backward()
    g_opt.step()

    if it % 100 == 0:
        print(f"iter {it} d_loss {d_loss.item():.3f} g_loss {g_loss.item():.3f} chamfer {chamfer():.3f}")
