"""A residual network with an exponential moving average of its weights for evaluation."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.c2, self.b2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        h = F.relu(self.b1(self.c1(x)))
        return F.relu(x + self.b2(self.c2(h)))


class SmallResNet(nn.Module):
    def __init__(self, c=16, blocks=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.blocks = nn.Sequential(*[Residual(c) for _ in range(blocks)])
        self.pool = nn.AvgPool2d(2)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(c * 16, 10)

    def forward(self, x):
        return self.head(self.drop(self.pool(self.blocks(self.stem(x))).flatten(1)))


@torch.no_grad()
def evaluate(net, x, y):
    net.eval()
    return (net(x).argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(3)
    d = load_digits()
    x = (torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) - 4.9) / 6.0
    y = torch.tensor(d.target)
    order = torch.randperm(len(x))
    tr, te = order[:1280], order[1280:]
    net = SmallResNet()
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.97))
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    for epoch in range(6):
        net.train()
        for idx in tr[torch.randperm(len(tr))].split(64):
            loss = F.cross_entropy(net(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            ema.update_parameters(net)
        update_bn(x[tr].split(64), ema)
        raw = evaluate(net, x[te], y[te])
        print(f"epoch {epoch} loss {loss.item():.4f} raw acc {raw:.4f} ema acc {evaluate(ema, x[te], y[te]):.4f}")


if __name__ == "__main__":
    main()
