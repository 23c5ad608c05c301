"""Two-stage transfer: pretrain on source shapes, warm up a new head, then fine-tune everything on the target shapes."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def shapes(n, kinds, angle, gen):
    """Gratings whose frequency pair says the class, turned by an angle, with noise."""
    grid = torch.linspace(-1, 1, 14)
    yy, xx = torch.meshgrid(grid, grid, indexing="ij")
    labels = torch.randint(kinds, (n,), generator=gen)
    phase = torch.rand(n, 1, 1, generator=gen) * 6.283
    freq = 2.0 + labels.float().view(-1, 1, 1) * 1.5
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    images = torch.sin(freq * 2 * (c * xx + s * yy) + phase) + 0.9 * torch.randn(n, 14, 14, generator=gen)
    return images.unsqueeze(1), labels


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, padding=2)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return F.adaptive_avg_pool2d(F.relu(self.conv2(x)), 1).flatten(1)


class Net(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(24, classes)

    def forward(self, x):
        return self.head(self.backbone(x))


def run(model, loader, epochs, lr):
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.Adam(params, lr=lr)
    for _ in range(epochs):
        model.train()
        for x, y in loader:
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
    return loss.item()


def score(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


torch.manual_seed(7)
gen = torch.Generator().manual_seed(7)
source = Net(Backbone(), 3)
run(source, DataLoader(TensorDataset(*shapes(600, 3, 0.0, gen)), 64, shuffle=True), epochs=6, lr=3e-3)

xtr, ytr = shapes(1500, 5, 1.5708, gen)
xte, yte = shapes(600, 5, 1.5708, gen)
loader = DataLoader(TensorDataset(xtr, ytr), 64, shuffle=True)
model = Net(source.backbone, 5)
for p in model.backbone.parameters():
    p.requires_grad = False
print("head warm-up: loss", run(model, loader, epochs=3, lr=3e-3), "acc", score(model, xte, yte))

for p in model.backbone.parameters():
    p.require_grad = True
for _ in range(4):
    loss = run(model, loader, epochs=3, lr=3e-3)
    print(f"fine-tuning: loss {loss:.4f} test acc {score(model, xte, yte):.4f}")
