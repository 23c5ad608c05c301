"""A tower of 16 residual blocks on a table of shells.

Rows are points in six dimensions; the class is the shell (of three) that the point lies in, given
by its distance from the centre. Every block adds two linear layers with a ReLU between to what it
is given, and both start with the usual scale for ReLU layers.

Wrong: nothing holds the size of the signal. Each block about triples its variance, so after 16
blocks it has grown by some thousands, the logits with it, and the gradients likewise.

Repair: a LayerNorm at the entry of each block and one before the last layer.
"""

import torch
from case import Case, accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"missing-normalization", "init-too-large"}
WHERE = "blocks.0"
PLACES = {"blocks", "blocks.0", "blocks.0.norm", "blocks.0.wide", "blocks.0.narrow"}

WIDTH = 24


def shells(rows):
    shell = torch.randint(0, 3, (rows,))
    x = torch.randn(rows, 6)
    x = x / x.norm(dim=1, keepdim=True) * (2 + shell[:, None] + 0.2 * torch.randn(rows, 1))
    return TensorDataset(x, shell)


class Block(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm()
        self.wide = nn.Linear(WIDTH, WIDTH)
        self.narrow = nn.Linear(WIDTH, WIDTH)
        for layer in (self.wide, self.narrow):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        return x + self.narrow(torch.relu(self.wide(self.norm(x))))


class Tower(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.entry = nn.Linear(6, WIDTH)
        self.blocks = nn.Sequential(*[Block(norm) for _ in range(16)])
        self.norm = norm()
        self.classes = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.classes(self.norm(self.blocks(self.entry(x))))


def build(seed, norm):
    torch.manual_seed(seed)
    model = Tower(norm)
    return Case(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.002),
        train=DataLoader(shells(1200), batch_size=60, shuffle=True),
        val=DataLoader(shells(400), batch_size=400),
        epochs=8,
        score=accuracy,
    )


def faulty(seed):
    return build(seed, nn.Identity)


def fixed(seed):
    return build(seed, lambda: nn.LayerNorm(WIDTH))
