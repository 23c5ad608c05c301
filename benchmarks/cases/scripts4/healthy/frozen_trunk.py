"""A trunk pretrained to reconstruct stays frozen; only a linear probe is trained, on few labels."""

import torch
from sklearn.datasets import load_digits
from torch import nn


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        self.decode = nn.Sequential(nn.ReLU(), nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        return self.decode(self.encode(x))


class Probe(nn.Module):
    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk
        for p in self.trunk.parameters():
            p.requires_grad_(False)
        self.norm = nn.BatchNorm1d(32, affine=False)
        self.linear = nn.Linear(32, 10)

    def train(self, mode=True):
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x):
        with torch.no_grad():
            z = self.trunk.encode(x)
        return self.linear(self.norm(z))


torch.manual_seed(5)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
unlabelled, test = slice(0, 1200), slice(1200, None)

trunk = Trunk()
optimizer = torch.optim.Adam(trunk.parameters(), lr=2e-3)
for epoch in range(30):
    for idx in torch.randperm(1200).split(64):
        noisy = x[idx] + 0.1 * torch.randn(len(idx), 64)
        loss = nn.functional.mse_loss(trunk(noisy), x[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(f"pretraining: reconstruction {loss.item():.4f}")

model = Probe(trunk)
optimizer = torch.optim.Adam(model.linear.parameters(), lr=1e-2)
few = torch.arange(300)
for epoch in range(40):
    model.train()
    for idx in few[torch.randperm(300)].split(30):
        loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        acc = (model(x[test]).argmax(1) == y[test]).float().mean().item()
    if epoch % 8 == 7:
        print(f"epoch {epoch + 1} loss {loss.item():.4f} test acc {acc:.4f}")
