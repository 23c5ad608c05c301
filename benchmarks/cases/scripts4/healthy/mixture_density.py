"""Mixture density network for an inverse problem; the likelihood is a density, so its loss goes below zero."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MDN(nn.Module):
    def __init__(self, components=6, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.pi, self.mu, self.log_sigma = (nn.Linear(hidden, components) for _ in range(3))

    def forward(self, x):
        h = self.body(x)
        return torch.log_softmax(self.pi(h), 1), self.mu(h), self.log_sigma(h).clamp(-5, 2)


def nll(params, y):
    log_pi, mu, log_sigma = params
    z = (y - mu) * torch.exp(-log_sigma)
    log_prob = log_pi - 0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_prob, 1).mean()


def sample(n):
    y = torch.rand(n, 1) * 2 - 1
    x = y + 0.3 * torch.sin(2 * math.pi * y) + 0.02 * torch.randn(n, 1)
    return x, y


def main():
    torch.manual_seed(2)
    train = DataLoader(TensorDataset(*sample(2500)), batch_size=100, shuffle=True)
    xte, yte = sample(800)
    model = MDN()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    gaussian = 0.5 * math.log(2 * math.pi * math.e * yte.var().item())
    for epoch in range(50):
        model.train()
        total = 0.0
        for x, y in train:
            loss = nll(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            total += loss.item()
        model.eval()
        with torch.no_grad():
            test = nll(model(xte), yte).item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1} train {total / len(train):.4f} test nll {test:.4f} (one gaussian {gaussian:.4f})")


main()
