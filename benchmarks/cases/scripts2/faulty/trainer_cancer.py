"""Trainer class with a configurable model, breast cancer data."""
from dataclasses import dataclass

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split


@dataclass
class Config:
    hidden: int = 32
    layers: int = 2
    lr: float = 3e-3
    epochs: int = 30
    batch_size: int = 32
    seed: int = 11


def build_model(cfg, n_in):
    mods, d = [], n_in
    for _ in range(cfg.layers):
        mods += [nn.Linear(d, cfg.hidden), nn.ReLU()]
        d = cfg.hidden
    mods.append(nn.Linear(d, 2))
    return nn.Sequential(*mods)


class Trainer:
    def __init__(self, cfg, data):
        self.cfg = cfg
        self.xtr, self.ytr, self.xte, self.yte = data
        self.model = build_model(cfg, self.xtr.shape[1])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=cfg.lr)
        self.loss_fn = nn.CrossEntropyLoss()
        self.reset()

    def reset(self):
        """Start from fresh weights with a fixed seed."""
        torch.manual_seed(self.cfg.seed)
        self.model = build_model(self.cfg, self.xtr.shape[1])

    def accuracy(self):
        with torch.no_grad():
            return (self.model(self.xte).argmax(1) == self.yte).float().mean().item()

    def fit(self):
        for ep in range(self.cfg.epochs):
            self.model.train()
            total = 0.0
            for idx in torch.randperm(len(self.xtr)).split(self.cfg.batch_size):
                self.model.zero_grad()
                loss = self.loss_fn(self.model(self.xtr[idx]), self.ytr[idx])
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(idx)
            self.model.eval()
            if ep % 3 == 2:
                print(f"epoch {ep + 1}: train loss {total / len(self.xtr):.4f} test acc {self.accuracy():.3f}")


def get_data():
    X, y = load_breast_cancer(return_X_y=True)
    a, b, c, d = train_test_split(X, y, test_size=0.25, random_state=0)
    m, s = a.mean(0), a.std(0)
    f = lambda z: torch.tensor((z - m) / s, dtype=torch.float32)
    return f(a), torch.tensor(c), f(b), torch.tensor(d)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Trainer(Config(), get_data()).fit()
