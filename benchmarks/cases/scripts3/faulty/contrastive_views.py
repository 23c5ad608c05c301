import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def augment(x):
    """A random shift of at most one pixel, a random gain, noise."""
    shift = torch.randint(-1, 2, (2,)).tolist()
    x = torch.roll(x, shift, dims=(2, 3))
    return x * (0.7 + 0.6 * torch.rand(len(x), 1, 1, 1)) + 0.15 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 64),
        )
        self.projector = nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        h = self.features(x)
        return h, F.normalize(self.projector(h), dim=0)


def nt_xent(za, zb, tau=0.2):
    z = torch.cat([za, zb])
    sim = z @ z.T / tau
    sim.fill_diagonal_(-1e4)
    n = len(za)
    positive = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, positive)


def probe(model, xtr, ytr, xte, yte):
    model.eval()
    with torch.no_grad():
        a, b = model(xtr)[1], model(xte)[1]
    few = slice(0, 400)
    return LogisticRegression(max_iter=500).fit(a[few].numpy(), ytr[few]).score(b.numpy(), yte)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(7))
    images, labels = images[order], labels[order.numpy()]
    xtr, xte, ytr, yte = images[:1300], images[1300:], labels[:1300], labels[1300:]

    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        model.train()
        losses = []
        for i in torch.randperm(len(xtr)).split(args.batch_size):
            _, za = model(augment(xtr[i]))
            _, zb = model(augment(xtr[i]))
            loss = nt_xent(za, zb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")
    print(f"linear probe accuracy {probe(model, xtr, ytr, xte, yte):.4f}")


if __name__ == "__main__":
    main()
