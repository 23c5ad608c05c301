"""Imbalanced binary classification with a class-weighted loss."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


def load():
    X, y = make_classification(n_samples=5000, n_features=12, n_informative=6, weights=[0.93], class_sep=1.2,
                               flip_y=0.01, random_state=4)
    xtr, xte, ytr, yte = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    mu, sd = xtr.mean(0), xtr.std(0)
    t = lambda a: torch.tensor(a, dtype=torch.float32)
    return t((xtr - mu) / sd), t(ytr), t((xte - mu) / sd), t(yte)


def balanced_accuracy(logits, y):
    pred = (logits > 0).float()
    recall = (pred[y == 1] == 1).float().mean()
    spec = (pred[y == 0] == 0).float().mean()
    return ((recall + spec) / 2).item(), recall.item()


def main():
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    xtr, ytr, xte, yte = load()
    n_pos, n_neg = ytr.sum(), (1 - ytr).sum()
    print(f"positives {int(n_pos)} negatives {int(n_neg)}")
    pos_weight = n_pos / n_neg
    loader = DataLoader(TensorDataset(xtr, ytr), batch_size=128, shuffle=True)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1))
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, 16):
        model.train()
        total = 0.0
        for x, y in loader:
            loss = criterion(model(x).squeeze(1), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(x)
        model.eval()
        with torch.no_grad():
            bal, rec = balanced_accuracy(model(xte).squeeze(1), yte)
        print(f"epoch {epoch:2d} loss {total / len(xtr):.4f} recall {rec:.3f} balanced acc {bal:.3f}")


if __name__ == "__main__":
    main()
