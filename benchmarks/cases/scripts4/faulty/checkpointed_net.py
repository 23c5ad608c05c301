"""A convolutional network whose feature extractor is recomputed in the backward pass to save memory."""

import warnings

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")


def waves(n, gen):
    """Eight classes: orientation (4) and whether the wave is chirped."""
    grid = torch.linspace(-1, 1, 16)
    yy, xx = torch.meshgrid(grid, grid, indexing="ij")
    label = torch.randint(8, (n,), generator=gen)
    angle = (label % 4).float().view(-1, 1, 1) * 0.785
    u = torch.cos(angle) * xx + torch.sin(angle) * yy
    chirp = (label // 4).float().view(-1, 1, 1)
    phase = torch.rand(n, 1, 1, generator=gen) * 6.28
    image = torch.sin(7 * u + 4 * chirp * u**2 + phase) + 1.2 * torch.randn(n, 16, 16, generator=gen)
    return image.unsqueeze(1), label


class WaveNet2d(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.extract = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.ReLU(),
        )
        self.classify = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 8))

    def forward(self, x):
        if self.training:
            x = checkpoint(self.extract, x, use_reentrant=True)
        else:
            x = self.extract(x)
        return self.classify(x)


torch.manual_seed(1)
gen = torch.Generator().manual_seed(1)
train = DataLoader(TensorDataset(*waves(2000, gen)), batch_size=50, shuffle=True)
xte, yte = waves(800, gen)
model = WaveNet2d()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(12):
    model.train()
    total = 0.0
    for x, y in train:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        acc = (model(xte).argmax(1) == yte).float().mean().item()
    print(f"epoch {epoch + 1} loss {total / len(train):.4f} test acc {acc:.4f}")
