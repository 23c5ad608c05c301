"""A residual network for three spiral arms.

A linear stem, a trunk of four residual blocks and a linear head tell the three arms apart. The trunk
keeps its blocks in a plain Python list, so the model does not know their parameters and the
optimizer never gets them. The repair is a `ModuleList`.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"parameters-not-trained"}
WHERE = "trunk"
PLACES = {"trunk", "optimizer"}


def spirals(rows):
    y = torch.randint(0, 3, (rows,))
    way = 0.1 + 0.9 * torch.rand(rows).sqrt()
    angle = 9 * way + y * 2 * torch.pi / 3
    x = torch.stack([way * angle.cos(), way * angle.sin()], dim=1)
    return TensorDataset(2 * x + 0.06 * torch.randn(rows, 2), y)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.narrow(torch.relu(self.wide(self.norm(x))))


class Trunk(nn.Module):
    def __init__(self, width, depth, keep):
        super().__init__()
        self.blocks = keep(Block(width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Net(nn.Module):
    def __init__(self, keep):
        super().__init__()
        self.stem = nn.Linear(2, 16)
        self.trunk = Trunk(16, 4, keep)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.trunk(self.stem(x)))


def build(seed, keep):
    torch.manual_seed(seed)
    model = Net(keep)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.005),
        train=DataLoader(spirals(1000), batch_size=50, shuffle=True),
        val=DataLoader(spirals(500), batch_size=500),
        epochs=25,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, list)


def fixed(seed):
    return build(seed, nn.ModuleList)
