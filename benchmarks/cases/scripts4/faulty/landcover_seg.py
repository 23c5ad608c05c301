"""Land-cover maps: a small encoder-decoder, five classes a pixel."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 5


def tiles(n, gen):
    """Smooth random class maps and three noisy bands."""
    scores = F.interpolate(torch.randn(n, CLASSES, 4, 4, generator=gen), size=16, mode="bilinear")
    mask = scores.argmax(1)
    colours = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(0))
    image = colours[mask].permute(0, 3, 1, 2) + 0.6 * torch.randn(n, 3, 16, 16, generator=gen)
    return image, mask


class SegNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.enc1 = nn.Sequential(nn.Conv2d(3, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU())
        self.enc2 = nn.Sequential(nn.Conv2d(w, 2 * w, 3, stride=2, padding=1), nn.BatchNorm2d(2 * w), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * w, w, 2, stride=2)
        self.dec = nn.Sequential(nn.Conv2d(2 * w, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU())
        self.out = nn.Conv2d(w, CLASSES, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.up(self.enc2(a))
        return self.out(self.dec(torch.cat([a, b], 1)))


def pixel_loss(logits, mask):
    return F.cross_entropy(logits.contiguous().view(-1, CLASSES), mask.view(-1))


torch.manual_seed(4)
gen = torch.Generator().manual_seed(4)
loader = DataLoader(TensorDataset(*tiles(500, gen)), batch_size=20, shuffle=True)
xte, mte = tiles(150, gen)
model = SegNet()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(8):
    model.train()
    total = 0.0
    for image, mask in loader:
        loss = pixel_loss(model(image), mask)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        pred = model(xte).argmax(1)
    iou = [((pred == c) & (mte == c)).sum() / ((pred == c) | (mte == c)).sum().clamp(min=1) for c in range(CLASSES)]
    print(f"epoch {epoch + 1} loss {total / len(loader):.4f} pixel acc {(pred == mte).float().mean():.4f} mean iou {sum(iou) / CLASSES:.4f}")
