"""Pixel classes of which a part is unknown.

Every pixel of a 12x12 image is ground, disc or bar. The pixels around the edge of the image and one in ten
of the others were never labelled and hold the number 255, which the loss is told to leave out. The
score counts the labelled pixels only.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9
UNKNOWN = 255


def shapes(rows, size=12):
    place = torch.arange(float(size))
    middle = 3 + (size - 6) * torch.rand(2, rows, 1)
    disc = (place - middle[0])[:, :, None] ** 2 + (place - middle[1])[:, None, :] ** 2 < 6
    column = torch.randint(1, size - 1, (rows, 1, 1))
    bar = (place == column).expand(rows, size, size)
    labels = torch.where(disc, 1, torch.where(bar, 2, 0))
    images = labels.ne(0).float() + 0.25 * torch.randn(rows, size, size)
    unknown = torch.rand(rows, size, size) < 0.1
    unknown[:, [0, -1], :] = unknown[:, :, [0, -1]] = True
    return TensorDataset(images[:, None], labels.masked_fill(unknown, UNKNOWN))


def pixel_accuracy(model, loader):
    """The mean over the classes of the share of their labelled pixels found."""
    images, labels = map(torch.cat, zip(*loader, strict=False))
    found = model(images).argmax(dim=1) == labels
    return float(torch.stack([found[labels == kind].float().mean() for kind in range(3)]).mean())


def healthy(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    )
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(ignore_index=UNKNOWN),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.004),
        train=DataLoader(shapes(300), batch_size=15, shuffle=True),
        val=DataLoader(shapes(100), batch_size=100),
        epochs=12,
        score=pixel_accuracy,
    )
