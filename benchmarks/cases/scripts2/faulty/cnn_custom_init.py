import argparse
import torch
from torch import nn
from sklearn.datasets import load_digits


def init_weights(m):
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.init.constant_(m.weight, 0.01)
        nn.init.zeros_(m.bias)


class SmallCNN(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(c * 16, 64), nn.ReLU(), nn.Linear(64, 10))
        self.apply(init_weights)

    def forward(self, x):
        return self.classifier(self.features(x))


def prepare(seed):
    d = load_digits()
    g = torch.Generator().manual_seed(seed)
    p = torch.randperm(len(d.target), generator=g)
    x = torch.tensor(d.images).float().unsqueeze(1)[p] / 8.0 - 1.0
    y = torch.tensor(d.target)[p]
    return x[300:], y[300:], x[:300], y[:300]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=12)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--batch", type=int, default=64)
    a = ap.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    xtr, ytr, xte, yte = prepare(0)
    net = SmallCNN()
    opt = torch.optim.Adam(net.parameters(), lr=a.lr)
    lossf = nn.CrossEntropyLoss()
    for e in range(a.epochs):
        net.train()
        s = 0.0
        for i in torch.randperm(len(xtr)).split(a.batch):
            opt.zero_grad()
            l = lossf(net(xtr[i]), ytr[i])
            l.backward()
            opt.step()
            s += l.item() * len(i)
        net.eval()
        with torch.no_grad():
            acc = (net(xte).argmax(1) == yte).float().mean().item()
        print("ep %02d  loss %.4f  acc %.3f" % (e, s / len(xtr), acc))


if __name__ == "__main__":
    main()
