"""Dense detector for rare events on synthetic sensor windows; biases start at the class prior."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
PRIOR = 0.05


class Detector(nn.Module):
    def __init__(self, n_in=32, width=64):
        super().__init__()
        self.fc1 = nn.Linear(n_in, width)
        self.fc2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        self.reset_parameters()

    def reset_parameters(self):
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=0.1)
                nn.init.constant_(m.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.out(x).squeeze(-1)


def windows(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = 0.7 * torch.randn(n, 32, generator=g)
    y = (torch.rand(n, generator=g) < 0.2).float()
    start = torch.randint(0, 24, (n,), generator=g)
    bump = torch.hann_window(8) * 2.5
    for i in torch.where(y > 0)[0].tolist():
        x[i, start[i]:start[i] + 8] += bump
    return x, y


def auc(score, y):
    r = score.argsort().argsort().float() + 1
    npos, nneg = y.sum(), (1 - y).sum()
    return ((r[y > 0].sum() - npos * (npos + 1) / 2) / (npos * nneg)).item()


def run(epochs=20, lr=1e-3, batch=64):
    torch.manual_seed(0)
    x, y = windows(4000, 0)
    xv, yv = windows(1000, 1)
    net = Detector()
    opt = torch.optim.Adam(net.parameters(), lr=lr)
    for e in range(epochs):
        tot = 0
        for idx in torch.randperm(len(x)).split(batch):
            loss = F.binary_cross_entropy_with_logits(net(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item() * len(idx)
        if e % 2:
            with torch.no_grad():
                s = net(xv)
                acc = ((s > 0).float() == yv).float().mean().item()
            print(f"epoch {e + 1} loss {tot / len(x):.4f} val acc {acc:.3f} val auc {auc(s, yv):.3f}")


if __name__ == "__main__":
    run()
