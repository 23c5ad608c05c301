"""Which grower made the wine? Measurements and labels come as two tables."""
import argparse

import numpy as np
import polars as pl
import torch
from sklearn.datasets import load_wine
from torch import nn

p = argparse.ArgumentParser()
p.add_argument("--epochs", type=int, default=60)
p.add_argument("--bs", type=int, default=16)
p.add_argument("--lr", type=float, default=2e-3)
p.add_argument("--hidden", type=int, default=48)
p.add_argument("--seed", type=int, default=3)
opt = p.parse_args()

torch.manual_seed(opt.seed)
rng = np.random.default_rng(opt.seed)
wine = load_wine()
perm = rng.permutation(len(wine.target))
names = [n.replace("/", "_") for n in wine.feature_names]

# what the lab sends us
lab = pl.DataFrame(dict(zip(names, wine.data[perm].T))).with_row_index("bottle")
# what the sommelier sends us
growers = pl.DataFrame({"grower": wine.target[perm]}).with_row_index("bottle", offset=1)
table = lab.join(growers, on="bottle", how="inner").sort("bottle")

X = table.select(names).to_numpy().astype(np.float32)
y = table["grower"].to_numpy()
n_train = int(0.7 * len(X))
mean, std = X[:n_train].mean(0), X[:n_train].std(0)
X = torch.from_numpy((X - mean) / std)
y = torch.from_numpy(y.copy()).long()
xtr, ytr, xte, yte = X[:n_train], y[:n_train], X[n_train:], y[n_train:]

model = nn.Sequential(
    nn.Linear(X.shape[1], opt.hidden),
    nn.SiLU(),
    nn.Linear(opt.hidden, opt.hidden),
    nn.SiLU(),
    nn.Linear(opt.hidden, 3),
)
optim = torch.optim.AdamW(model.parameters(), lr=opt.lr)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(opt.epochs):
    model.train()
    total = 0.0
    for idx in torch.randperm(n_train).split(opt.bs):
        loss = loss_fn(model(xtr[idx]), ytr[idx])
        optim.zero_grad()
        loss.backward()
        optim.step()
        total += loss.item() * len(idx)
    if (epoch + 1) % 10 == 0:
        model.eval()
        with torch.no_grad():
            acc = (model(xte).argmax(1) == yte).float().mean().item()
        print(f"[{epoch + 1:3d}] train loss {total / n_train:.4f}  test acc {acc:.3f}")
