"""Which of two marked words comes first? A transformer encoder written as a class with a config."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    vocab: int = 40
    length: int = 16
    dim: int = 64
    heads: int = 4
    layers: int = 2
    lr: float = 0.03
    steps: int = 400
    batch: int = 64
    seed: int = 5


def phrases(n, cfg, gen):
    """Class 0 to 3: whether word 1 stands before word 2, and whether both are in the first half."""
    words = torch.randint(3, cfg.vocab, (n, cfg.length), generator=gen)
    spots = torch.stack([torch.randperm(cfg.length, generator=gen)[:2] for _ in range(n)])
    rows = torch.arange(n)
    words[rows, spots[:, 0]] = 1
    words[rows, spots[:, 1]] = 2
    return words, (spots[:, 0] < spots[:, 1]).long() + 2 * (spots.amax(1) < 10).long()


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.words = nn.Embedding(cfg.vocab, cfg.dim)
        self.places = nn.Parameter(torch.randn(cfg.length, cfg.dim) * 0.1)
        layer = nn.TransformerEncoderLayer(cfg.dim, cfg.heads, 2 * cfg.dim, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, cfg.layers)
        self.classify = nn.Linear(cfg.dim, 4)

    def forward(self, x):
        return self.classify(self.layers(self.words(x) + self.places).mean(1))


def train(cfg):
    torch.manual_seed(cfg.seed)
    gen = torch.Generator().manual_seed(cfg.seed)
    xtr, ytr = phrases(4000, cfg, gen)
    xte, yte = phrases(500, cfg, gen)
    model = Encoder(cfg)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    criterion = nn.CrossEntropyLoss()
    for step in range(1, cfg.steps + 1):
        idx = torch.randint(len(xtr), (cfg.batch,))
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(xtr[idx]), ytr[idx])
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            model.eval()
            with torch.no_grad():
                out = model(xte)
            print(f"step {step} loss {loss.item():.4f} test loss {criterion(out, yte):.4f} test acc {(out.argmax(1) == yte).float().mean():.4f}")


train(Config())
