"""A convnet on digits and shifted copies whose labels were repeated in the other order.

Each training image is followed by a copy shifted left and one shifted right, so the images come as
a, a', a'', b, b', b''. The labels are made with `repeat` (a, b, c, ..., a, b, c, ...) and belong to
their images only by chance. The repair is `repeat_interleave`.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"labels-corrupted"}
WHERE = "data"


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(24 * 4, 10)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def augment(images):
    copies = [images, images.roll(1, dims=3), images.roll(-1, dims=3)]
    return torch.stack(copies, dim=1).flatten(0, 1)


def build(seed, repeat):
    torch.manual_seed(seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    order = torch.randperm(len(x))
    train, val = order[:1000], order[1000:]
    model = ConvNet()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        train=DataLoader(TensorDataset(augment(x[train]), repeat(y[train])), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[val], y[val]), batch_size=400),
        epochs=6,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, lambda labels: labels.repeat(3))


def fixed(seed):
    return build(seed, lambda labels: labels.repeat_interleave(3))
