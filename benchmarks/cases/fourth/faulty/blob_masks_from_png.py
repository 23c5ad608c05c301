"""A small convolutional network that marks blobs, pixel by pixel.

The images show bright blobs in noise; the masks are stored as bytes, 0 outside and 255 inside, as
in an image file, and are only turned into floats. A binary cross-entropy with a target of 255
rewards large logits without end, and one pixel inside outweighs 255 outside: every pixel is marked. The
repair divides the masks by 255.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"labels-invalid"}
WHERE = "data"
PLACES = {"data"}


def blobs(rows, size=16):
    place = torch.arange(float(size))
    image, mask = torch.zeros(rows, size, size), torch.zeros(rows, size, size, dtype=torch.bool)
    for _ in range(2):
        row, column = (2 + (size - 4) * torch.rand(2, rows, 1)).unbind()
        radius = 1.5 + 1.5 * torch.rand(rows, 1, 1)
        inside = (place - row)[:, :, None] ** 2 + (place - column)[:, None, :] ** 2 < radius**2
        image, mask = image + inside.float(), mask | inside
    image = image.clamp(max=1) + 0.5 * torch.randn(rows, size, size)
    return image[:, None], (255 * mask[:, None]).to(torch.uint8)


class Marker(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2d(24, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x):
        fine = self.down[1](self.down[0](x))
        coarse = self.down[3](self.down[2](self.pool(fine)))
        return self.up(torch.cat([fine, self.grow(coarse)], dim=1))


def overlap(model, loader):
    """Intersection over union of the marked and the true pixels."""
    both = either = 0
    for images, masks in loader:
        marked, true = model(images) > 0, masks > 0
        both, either = both + int((marked & true).sum()), either + int((marked | true).sum())
    return both / either


def build(seed, scale):
    torch.manual_seed(seed)
    model = Marker()
    sets = [blobs(rows) for rows in (300, 100)]
    train, val = (TensorDataset(images, masks.float() / scale) for images, masks in sets)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.003),
        train=DataLoader(train, batch_size=20, shuffle=True),
        val=DataLoader(val, batch_size=100),
        epochs=12,
        score=overlap,
    )


def faulty(seed):
    return build(seed, scale=1)


def fixed(seed):
    return build(seed, scale=255)
