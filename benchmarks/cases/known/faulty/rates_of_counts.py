"""A Poisson loss that takes outputs for logarithms, while the model ends in a softplus."""

import torch
import torch.nn.functional as F
from case import Case, loaders, mlp, r2
from torch import nn

CAUSES = {"output-mismatch", "loss-mismatch"}
WHERE = "loss"


def rows(n, g):
    x = torch.randn(n, 6, generator=g)
    rate = torch.exp(0.8 * x[:, 0] + 0.5 * x[:, 1] + 1.5)
    return x, torch.poisson(rate, generator=g)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp(6, 32, 1)

    def forward(self, x):
        return F.softplus(self.body(x)).squeeze(1)


def build(seed, log):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(3)
    a, b = loaders(rows(1500, g), rows(500, g))
    model = Net()
    return Case(model, nn.PoissonNLLLoss(log_input=log), torch.optim.Adam(model.parameters(), lr=0.01), a, b, 15, r2)


def faulty(seed):
    return build(seed, True)


def fixed(seed):
    return build(seed, False)
