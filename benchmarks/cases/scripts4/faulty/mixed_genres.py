"""Genres from audio statistics, with mixup."""

import numpy as np
import torch
from sklearn.datasets import make_classification
from torch import nn, optim

ALPHA = 0.3


def mixup(x, y, rng):
    lam = float(rng.beta(ALPHA, ALPHA))
    partner = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[partner], y, y[partner], lam


def mixup_loss(criterion, out, y_a, y_b, lam):
    return (1 - lam) * criterion(out, y_a) + lam * criterion(out, y_b)


def main(seed=0):
    torch.manual_seed(0)
    rng = np.random.default_rng(seed)
    x, y = make_classification(
        n_samples=3600, n_features=30, n_informative=14, n_classes=8, n_clusters_per_class=1, class_sep=1.2, random_state=4
    )
    x = torch.from_numpy(x).float()
    y = torch.from_numpy(y)
    x = (x - x[:2400].mean(0)) / x[:2400].std(0)
    xtr, ytr, xte, yte = x[:2400], y[:2400], x[2400:], y[2400:]
    model = nn.Sequential(nn.Linear(30, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)
    for epoch in range(25):
        model.train()
        total = 0.0
        for idx in torch.randperm(len(xtr)).split(48):
            mixed, y_a, y_b, lam = mixup(xtr[idx], ytr[idx], rng)
            loss = mixup_loss(criterion, model(mixed), y_a, y_b, lam)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(xte)
        acc = (out.argmax(1) == yte).float().mean().item()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1} mixup loss {total / len(xtr):.4f} test accuracy {acc:.4f}")


main()
