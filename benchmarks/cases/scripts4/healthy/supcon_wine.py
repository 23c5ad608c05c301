"""Supervised contrastive embedding of the wine table, then a nearest-centroid classifier."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn


def supcon(z, y, temperature=0.2):
    sim = z @ z.T / temperature
    eye = torch.eye(len(y), dtype=torch.bool)
    log_prob = sim - torch.logsumexp(sim.masked_fill(eye, -1e9), 1, keepdim=True)
    positive = (y[:, None] == y[None]) & ~eye
    return -((log_prob * positive).sum(1) / positive.sum(1).clamp(min=1)).mean()


class Encoder(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 16))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def centroid_accuracy(model, xtr, ytr, xte, yte):
    model.eval()
    with torch.no_grad():
        ztr, zte = model(xtr), model(xte)
    centres = torch.stack([ztr[ytr == c].mean(0) for c in range(3)])
    return (torch.cdist(zte, centres).argmin(1) == yte).float().mean().item()


torch.manual_seed(2)
wine = load_wine()
xtr, xte, ytr, yte = (torch.tensor(a) for a in train_test_split(wine.data, wine.target, test_size=0.4, random_state=3, stratify=wine.target))
mean, std = xtr.mean(0), xtr.std(0)
xtr, xte = ((xtr - mean) / std).float(), ((xte - mean) / std).float()
model = Encoder(13)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
for epoch in range(120):
    model.train()
    idx = torch.randperm(len(xtr))[:64]
    jitter = xtr[idx] + 0.3 * torch.randn(64, 13)
    loss = supcon(model(jitter), ytr[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 20 == 19:
        print(f"step {epoch + 1} loss {loss.item():.4f} test centroid accuracy {centroid_accuracy(model, xtr, ytr, xte, yte):.4f}")
