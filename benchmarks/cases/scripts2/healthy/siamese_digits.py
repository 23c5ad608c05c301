"""Siamese network with contrastive loss on sklearn digits, evaluated by 1-NN in the embedding."""
import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class PairDataset(Dataset):
    def __init__(self, x, y, length=4000):
        self.x, self.y, self.length = x, y, length
        self.by_class = [torch.where(y == c)[0].tolist() for c in range(10)]

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        a = random.randrange(len(self.x))
        ca = self.y[a].item()
        same = random.random() < 0.5
        if same:
            b = random.choice(self.by_class[ca])
        else:
            cb = random.choice([c for c in range(10) if c != ca])
            b = random.choice(self.by_class[cb])
        return self.x[a], self.x[b], torch.tensor(float(same))


class Embed(nn.Module):
    def __init__(self, dim=4):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return self.f(x)


def contrastive(za, zb, same, margin=1.0):
    d = F.pairwise_distance(za, zb)
    return (same * d.pow(2) + (1 - same) * F.relu(margin - d).pow(2)).mean()


@torch.no_grad()
def knn_acc(net, xtr, ytr, xte, yte):
    net.eval()
    d = torch.cdist(net(xte), net(xtr))
    acc = (ytr[d.argmin(1)] == yte).float().mean().item()
    net.train()
    return acc


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=12)
    ap.add_argument("--lr", type=float, default=1e-3)
    args = ap.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(1)
    d = load_digits()
    x, y = torch.tensor(d.data / 16, dtype=torch.float32), torch.tensor(d.target)
    perm = torch.randperm(len(x))
    x, y = x[perm], y[perm]
    xtr, ytr, xte, yte = x[:1300], y[:1300], x[1300:], y[1300:]
    loader = DataLoader(PairDataset(xtr, ytr), batch_size=128)
    net = Embed()
    opt = torch.optim.Adam(net.parameters(), lr=args.lr)
    print("untrained 1-NN acc %.3f" % knn_acc(net, xtr, ytr, xte, yte))
    for ep in range(args.epochs):
        tot = 0
        for a, b, same in loader:
            loss = contrastive(net(a), net(b), same)
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item()
        print("epoch %d contrastive %.4f 1-NN acc %.3f" % (ep, tot / len(loader), knn_acc(net, xtr, ytr, xte, yte)))


if __name__ == "__main__":
    main()
