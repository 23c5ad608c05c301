"""Segment bright round cells with a little U-Net: binary cross-entropy plus soft Dice."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Cells(Dataset):
    def __init__(self, n, seed, size=16):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:size, :size]
        self.images, self.masks = [], []
        for _ in range(n):
            mask = np.zeros((size, size), np.float32)
            for _ in range(rng.integers(1, 4)):
                cy, cx, r = rng.uniform(4, size - 4), rng.uniform(4, size - 4), rng.uniform(2, 4)
                mask[(yy - cy) ** 2 + (xx - cx) ** 2 < r * r] = 1
            image = 0.9 * mask + 0.5 * rng.standard_normal(mask.shape) - 0.2
            self.images.append(image.astype(np.float32)[None])
            self.masks.append(mask[None])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.masks[i]


def double_conv(a, b):
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU()
    )


class UNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.down1 = double_conv(1, c)
        self.down2 = double_conv(c, 2 * c)
        self.bottom = double_conv(2 * c, 4 * c)
        self.up2 = nn.ConvTranspose2d(4 * c, 2 * c, 2, stride=2)
        self.dec2 = double_conv(4 * c, 2 * c)
        self.up1 = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
        self.dec1 = double_conv(2 * c, c)
        self.head = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        x = self.bottom(F.max_pool2d(d2, 2))
        x = self.dec2(torch.cat([self.up2(x), d2], 1))
        x = self.dec1(torch.cat([self.up1(x), d1], 1))
        return self.head(x).sigmoid()


def soft_dice(logits, mask, eps=1.0):
    p = logits.sigmoid()
    overlap = (p * mask).sum((1, 2, 3))
    return ((2 * overlap + eps) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + eps)).mean()


def dice_loss(logits, mask):
    return 1 - soft_dice(logits, mask)


def hard_dice(model, loader):
    model.eval()
    scores = []
    with torch.no_grad():
        for x, m in loader:
            p = (model(x) > 0.5).float()
            scores.append((2 * (p * m).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + m.sum((1, 2, 3)) + 1))
    return torch.cat(scores).mean().item()


def main():
    torch.manual_seed(0)
    train = DataLoader(Cells(200, 0), batch_size=8, shuffle=True)
    val = DataLoader(Cells(60, 1), batch_size=60)
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(8):
        model.train()
        total = 0
        for x, m in train:
            logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits, m) + dice_loss(logits, m)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(train):.4f} dice {hard_dice(model, val):.4f}")


if __name__ == "__main__":
    main()
