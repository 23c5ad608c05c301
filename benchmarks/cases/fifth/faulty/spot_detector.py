"""A pixel-wise detector of small bright spots.

Noisy 12x12 images hold one to three spots of 2x2 pixels; a convolutional network gives a logit
per pixel. Few pixels belong to a spot, so the author starts the biases at -4.6, which makes the
first guess of a spot one in a hundred.

Wrong: the bias is set in every convolution and not only in the last. Ahead of the ReLUs it is far
below anything that the weights add, so the hidden units are off for all pixels and get no gradient.

Repair: set it in the last layer only.
"""

import torch
from case import Case
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"dead-units"}
WHERE = "body.0"
PLACES = {"body.0", "body.1", "body.2", "body.3", "body"}

PRIOR = -4.6


def images(rows):
    mask = torch.zeros(rows, 1, 12, 12)
    for image in mask:
        for _ in range(int(torch.randint(1, 4, ()))):
            top, left = torch.randint(0, 11, (2,)).tolist()
            image[0, top : top + 2, left : left + 2] = 1
    return TensorDataset(mask + 0.35 * torch.randn_like(mask), mask)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.Conv2d(10, 10, 3, padding=1), nn.ReLU())
        self.spot = nn.Conv2d(10, 1, 1)

    def forward(self, x):
        return self.spot(self.body(x))


def overlap(model, loader):
    """F1 of the pixels called a spot."""
    hits = called = true = 0
    for x, mask in loader:
        guess = model(x) > 0
        hits += float((guess & (mask > 0)).sum())
        called += float(guess.sum())
        true += float(mask.sum())
    return 2 * hits / (called + true)


def build(seed, chosen):
    torch.manual_seed(seed)
    model = Detector()
    for module in chosen(model):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.bias, PRIOR)
    return Case(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(images(400), batch_size=20, shuffle=True),
        val=DataLoader(images(150), batch_size=150),
        epochs=12,
        score=overlap,
    )


def faulty(seed):
    return build(seed, lambda model: model.modules())


def fixed(seed):
    return build(seed, lambda model: [model.spot])
