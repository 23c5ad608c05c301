"""Ten plain convolutions one after the other, on 8x8 digits.

A VGG-like net without any normalisation, with the layers' own initialization. From layer to layer the
part of the signal that depends on the image shrinks, until the last layer sees almost the same values
for every digit; the loss stays at log 10 for all epochs. The repair puts batch normalisation between each
convolution and its ReLU (and drops the convolution's bias), and the same net learns.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"missing-normalization", "init-too-small"}
WHERE = "features.0"

DEPTH, WIDTH = 10, 16


class PlainNet(nn.Module):
    def __init__(self, normalize):
        super().__init__()
        layers, channels = [], 1
        for i in range(DEPTH):
            layers.append(nn.Conv2d(channels, WIDTH, 3, padding=1, bias=not normalize))
            if normalize:
                layers.append(nn.BatchNorm2d(WIDTH))
            layers.append(nn.ReLU())
            if i in (0, 4):
                layers.append(nn.MaxPool2d(2))
            channels = WIDTH
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(WIDTH * 2 * 2, 10)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def digits(seed):
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x, y = (x - 4.9) / 6.0, torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, val = order[:1200], order[1200:]
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val])


def build(seed, normalize):
    torch.manual_seed(seed)
    model = PlainNet(normalize)
    train, val = digits(seed)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        train=DataLoader(train, batch_size=30, shuffle=True),
        val=DataLoader(val, batch_size=199),
        epochs=5,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, normalize=False)


def fixed(seed):
    return build(seed, normalize=True)
