"""A picture and a switch, read by two branches.

The picture is an 8x8 digit, the switch is a number 0 to 2; the class is the digit modulo 3 plus the
switch, modulo 3. The picture's branch was once a ready-made network and still runs under `no_grad`;
now it starts at random, and no gradient ever reaches it. The head has to make do with
eight random features. The repair takes the `no_grad` away.
"""

import torch
from case import Case, accuracy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-detached", "parameters-not-trained"}
WHERE = "picture"
PLACES = {"picture", "picture.0"}


class Rows(TensorDataset):
    """Yields ((picture, switch), class)."""

    def __getitem__(self, index):
        picture, switch, label = super().__getitem__(index)
        return (picture, switch), label


def rows():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
    switch = torch.randint(0, 3, (len(x),))
    y = (y % 3 + switch) % 3
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, val = order[:1300], order[1300:]
    return Rows(x[train], switch[train], y[train]), Rows(x[val], switch[val], y[val])


class Both(nn.Module):
    def __init__(self, learn_picture):
        super().__init__()
        self.learn_picture = learn_picture
        self.picture = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 8), nn.Tanh()
        )
        self.switch = nn.Embedding(3, 8)
        self.head = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, inputs):
        picture, switch = inputs
        with torch.set_grad_enabled(self.learn_picture and torch.is_grad_enabled()):
            seen = self.picture(picture)
        return self.head(torch.cat([seen, self.switch(switch)], dim=1))


def build(seed, learn_picture):
    torch.manual_seed(seed)
    model = Both(learn_picture)
    train, val = rows()
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(train, batch_size=50, shuffle=True),
        val=DataLoader(val, batch_size=250),
        epochs=15,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, learn_picture=False)


def fixed(seed):
    return build(seed, learn_picture=True)
