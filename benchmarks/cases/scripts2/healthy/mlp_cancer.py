"""Breast cancer classification with a small MLP."""
import argparse

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=40)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--hidden", type=int, default=64)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def load(args):
    x, y = load_breast_cancer(return_X_y=True)
    xtr, xte, ytr, yte = train_test_split(x, y, test_size=0.25, random_state=args.seed, stratify=y)
    sc = StandardScaler().fit(xtr)
    xtr = torch.tensor(sc.transform(xtr), dtype=torch.float32)
    xte = torch.tensor(sc.transform(xte), dtype=torch.float32)
    ytr = torch.tensor(ytr, dtype=torch.float32).unsqueeze(1)
    yte = torch.tensor(yte, dtype=torch.float32).unsqueeze(1)
    train = DataLoader(TensorDataset(xtr, ytr), batch_size=args.batch_size, shuffle=True)
    test = DataLoader(TensorDataset(xte, yte), batch_size=256)
    return train, test


class MLP(nn.Module):
    def __init__(self, d_in, hidden):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d_in, hidden), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for xb, yb in loader:
        pred = (model(xb) > 0).float()
        correct += (pred == yb).sum().item()
        total += yb.numel()
    return correct / total


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    torch.set_num_threads(1)
    train, test = load(args)
    model = MLP(30, args.hidden)
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for xb, yb in train:
            opt.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            opt.step()
            running += loss.item() * len(xb)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1:3d} loss {running / len(train.dataset):.4f} test acc {evaluate(model, test):.4f}")
    print(f"final test acc {evaluate(model, test):.4f}")


if __name__ == "__main__":
    main()
