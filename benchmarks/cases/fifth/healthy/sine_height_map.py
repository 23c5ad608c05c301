"""A height map stored in a network of sines.

The network turns a place on the map into a height. Its hidden units are sines of thirty times a
linear layer, with the weights that belong to it: much wider than usual in the first layer, so that
the units go through several periods over the map. The map has fine waves; two thirds of its points
are for training, the rest for the score.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MIN_SCORE = 0.9


class Sine(nn.Module):
    def __init__(self, inputs, outputs, first=False, factor=30.0):
        super().__init__()
        self.linear, self.factor = nn.Linear(inputs, outputs), factor
        bound = 1 / inputs if first else (6 / inputs) ** 0.5 / factor
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.factor * self.linear(x))


def healthy(seed):
    torch.manual_seed(seed)
    side = torch.linspace(-1, 1, 48)
    place = torch.cartesian_prod(side, side)
    u, v = place[:, 0], place[:, 1]
    height = torch.sin(14 * u + 3 * v) * torch.cos(9 * v) + 0.5 * torch.sin(20 * u * v)
    height = (height / height.std()).unsqueeze(1)
    order = torch.randperm(len(place))
    train, val = order[:1536], order[1536:]
    model = nn.Sequential(Sine(2, 64, first=True), Sine(64, 64), nn.Linear(64, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.001),
        train=DataLoader(TensorDataset(place[train], height[train]), batch_size=64, shuffle=True),
        val=DataLoader(TensorDataset(place[val], height[val]), batch_size=768),
        epochs=30,
        score=r2,
    )
