"""Depthwise-separable network with bfloat16 autocast, gradient accumulation and clipping."""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Separable(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.depth = nn.Conv2d(i, i, 3, stride=stride, padding=1, groups=i, bias=False)
        self.point = nn.Conv2d(i, o, 1, bias=False)
        self.norm = nn.BatchNorm2d(o)

    def forward(self, x):
        return F.relu6(self.norm(self.point(self.depth(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.blocks = nn.Sequential(Separable(16, 32), Separable(32, 48, 2), Separable(48, 48))
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        return self.fc(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


def main(args):
    torch.manual_seed(args.seed)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1)
    x = (x - 4.88) / 6.02
    y = torch.tensor(d.target)
    perm = torch.randperm(len(x))
    train = DataLoader(TensorDataset(x[perm[:1400]], y[perm[:1400]]), batch_size=35, shuffle=True)
    xte, yte = x[perm[1400:]], y[perm[1400:]]
    model = Net()
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for i, (xb, yb) in enumerate(train):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(xb), yb)
            (loss / args.accumulate).backward()
            if (i + 1) % args.accumulate == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                opt.zero_grad(set_to_none=True)
            total += loss.item()
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            acc = (model(xte).argmax(1) == yte).float().mean().item()
        print(f"epoch {epoch + 1} loss {total / len(train):.4f} test acc {acc:.4f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=8e-3)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--accumulate", type=int, default=2)
    p.add_argument("--seed", type=int, default=0)
    main(p.parse_args())
