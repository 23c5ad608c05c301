import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

CFG = {"lr": 1.0, "momentum": 0.9, "epochs": 8, "batch": 64, "seed": 5}


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 16, 3, padding=1)
        self.f1 = nn.Linear(16 * 4, 32)
        self.f2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return self.f2(F.relu(self.f1(x.flatten(1))))


def split(seed):
    d = load_digits()
    x = torch.from_numpy(d.images).float().unsqueeze(1).div(16)
    y = torch.from_numpy(d.target)
    p = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return x[p[:1400]], y[p[:1400]], x[p[1400:]], y[p[1400:]]


def fit(cfg):
    torch.manual_seed(cfg["seed"])
    xtr, ytr, xva, yva = split(cfg["seed"])
    net = ConvNet()
    opt = torch.optim.SGD(net.parameters(), lr=cfg["lr"], momentum=cfg["momentum"])
    for epoch in range(cfg["epochs"]):
        net.train()
        losses = []
        for idx in torch.randperm(len(xtr)).split(cfg["batch"]):
            loss = F.cross_entropy(net(xtr[idx]), ytr[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        net.eval()
        with torch.no_grad():
            acc = (net(xva).argmax(1) == yva).float().mean().item()
        print(f"epoch {epoch + 1} loss {sum(losses) / len(losses):.4f} val acc {acc:.3f}")
    return net


if __name__ == "__main__":
    torch.set_num_threads(1)
    fit(CFG)
