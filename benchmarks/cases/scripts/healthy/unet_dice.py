"""A small U-Net with a Dice loss: discs on noise."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def discs(count, generator, size=32):
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).float()
    centre = torch.rand(count, 2, 1, 1, generator=generator) * 20 + 6
    radius = torch.rand(count, 1, 1, generator=generator) * 4 + 4
    mask = ((grid - centre).pow(2).sum(1).sqrt() < radius).float().unsqueeze(1)
    images = mask + 0.6 * torch.randn(count, 1, size, size, generator=generator)
    return images, mask


class DoubleConv(nn.Sequential):
    def __init__(self, inside, outside):
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.down1 = DoubleConv(1, width)
        self.down2 = DoubleConv(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv = DoubleConv(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        skip = self.down1(x)
        x = self.up(self.down2(self.pool(skip)))
        return self.out(self.conv(torch.cat([x, skip], 1)))


class DiceLoss(nn.Module):
    def forward(self, logits, target):
        p = torch.sigmoid(logits)
        overlap = (p * target).sum((1, 2, 3))
        return 1 - ((2 * overlap + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)).mean()


torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)
train_loader = DataLoader(TensorDataset(*discs(256, generator)), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(*discs(64, generator)), batch_size=32)
model, criterion = UNet(), DiceLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(4):
    model.train()
    for image, mask in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(image), mask)
        loss.backward()
        optimizer.step()
    model.eval()
    dice = []
    with torch.no_grad():
        for image, mask in val_loader:
            predicted = (model(image) > 0).float()
            overlap = (predicted * mask).sum()
            dice.append((2 * overlap / (predicted.sum() + mask.sum())).item())
    print(f"epoch {epoch}: loss {loss.item():.3f} dice {sum(dice) / len(dice):.3f}")
