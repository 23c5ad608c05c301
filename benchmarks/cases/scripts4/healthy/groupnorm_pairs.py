"""Large-ish volumes two at a time: group norm in place of batch norm, gradients accumulated over eight pairs."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 8


def scans(n, seed):
    g = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 20)] * 2, indexing="ij"))
    labels = torch.randint(3, (n,), generator=g)
    centre = torch.rand(n, 2, 1, 1, generator=g) - 0.5
    d = ((grid - centre) ** 2).sum(1).sqrt()
    ring = torch.exp(-(((d - 0.35) / 0.08) ** 2))
    disc = (d < 0.3).float()
    square = ((grid - centre).abs().amax(1) < 0.3).float()
    image = torch.stack([ring, disc, square], 1)[torch.arange(n), labels]
    return (image + 0.4 * torch.randn(n, 20, 20, generator=g)).unsqueeze(1), labels


def stage(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, o), nn.ReLU())


torch.manual_seed(0)
loader = DataLoader(TensorDataset(*scans(800, 1)), batch_size=2, shuffle=True)
xte, yte = scans(400, 2)
model = nn.Sequential(stage(1, 16), stage(16, 32), stage(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(6):
    model.train()
    total = 0.0
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y)
        (loss / ACCUMULATE).backward()
        if (i + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        acc = (model(xte).argmax(1) == yte).float().mean().item()
    print(f"epoch {epoch + 1} loss {total / len(loader):.4f} test acc {acc:.4f}")
