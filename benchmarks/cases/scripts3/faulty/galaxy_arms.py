import argparse

import numpy as np
import torch
import torch.nn as nn


def spirals(n, seed):
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 3, n)
    r = np.sqrt(rng.random(n))
    angle = 4.5 * r + 2 * np.pi * arm / 3 + 0.15 * rng.standard_normal(n)
    xy = np.stack([r * np.cos(angle), r * np.sin(angle)], 1) * 2
    return torch.tensor(xy, dtype=torch.float32), torch.tensor(arm)


class ArmClassifier(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lift = nn.Linear(2, width)
        self.norm1 = nn.BatchNorm1d(width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        x = self.norm1(self.lift(x))
        x = self.norm2(self.mix(x))
        return self.out(x)


def get_args():
    parser = argparse.ArgumentParser(description="classify the arms of a spiral")
    parser.add_argument("--width", default=64, type=int)
    parser.add_argument("--epochs", default=30, type=int)
    parser.add_argument("--lr", default=5e-3, type=float)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    torch.manual_seed(0)
    x, y = spirals(1500, 0)
    xt, yt = spirals(500, 1)
    model = ArmClassifier(args.width)
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.epochs)
    for epoch in range(args.epochs):
        model.train()
        for i in torch.randperm(len(x)).split(50):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x[i]), y[i])
            loss.backward()
            opt.step()
        sched.step()
        if epoch % 5 == 4:
            model.eval()
            with torch.no_grad():
                acc = (model(xt).argmax(1) == yt).float().mean().item()
            print(f"{epoch + 1:3d} | {loss.item():.4f} | acc {acc:.4f}")
