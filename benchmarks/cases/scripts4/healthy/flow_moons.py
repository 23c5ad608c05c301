"""Real-valued non-volume-preserving flow on two moons."""

import math

import torch
from sklearn.datasets import make_moons
from torch import nn, optim


class Coupling(nn.Module):
    def __init__(self, flip, hidden=48):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        if self.flip:
            a, b = b, a
        s, t = self.net(a).chunk(2, 1)
        s = torch.tanh(s) * 1.5
        b = b * s.exp() + t
        return torch.cat([b, a] if self.flip else [a, b], 1), s.squeeze(1)


class Flow(nn.Module):
    def __init__(self, layers=8):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 1) for i in range(layers))

    def log_prob(self, x):
        log_det = torch.zeros(len(x))
        for layer in self.layers:
            x, s = layer(x)
            log_det = log_det + s
        return -0.5 * (x**2).sum(1) - math.log(2 * math.pi) + log_det


torch.manual_seed(1)
moons = torch.tensor(make_moons(4000, noise=0.05, random_state=0)[0], dtype=torch.float32)
moons = (moons - moons.mean(0)) / moons.std(0) * 0.5
train, test = moons[:3000], moons[3000:]
cov = torch.cov(train.T)
gaussian = torch.distributions.MultivariateNormal(train.mean(0), cov).log_prob(test).mean()

flow = Flow()
optimizer = optim.Adam(flow.parameters(), lr=2e-3)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20 * 30)
for epoch in range(20):
    for batch in train[torch.randperm(len(train))].split(100):
        loss = -flow.log_prob(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 3.0)
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        held_out = -flow.log_prob(test).mean()
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} loss {loss.item():.4f} test nll {held_out:.4f} (one gaussian {-gaussian:.4f})")
