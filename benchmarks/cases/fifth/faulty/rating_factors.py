"""Ratings as a product of user factors and item factors.

Each of 100 users and 60 items has six numbers; a rating is their dot product plus an offset. The
program sees half of all ratings and is scored on others.

Wrong: both tables are filled with 0.3. The six factors of a user then get the same gradient in
each update and stay equal for ever: the model is a product of one number each.

Repair: fill the tables with small random numbers.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"constant-init"}
WHERE = "users"
PLACES = {"users", "items"}

USERS, ITEMS, FACTORS = 100, 60, 6


def ratings():
    taste, kind = torch.randn(USERS, 4), torch.randn(ITEMS, 4)
    table = 3 + 0.5 * taste @ kind.T + 0.1 * torch.randn(USERS, ITEMS)
    pairs = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS))
    pairs = pairs[torch.randperm(len(pairs))]
    values = table[pairs[:, 0], pairs[:, 1]]
    return TensorDataset(pairs[:3000], values[:3000]), TensorDataset(pairs[3000:4200], values[3000:4200])


class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, FACTORS)
        self.items = nn.Embedding(ITEMS, FACTORS)
        self.offset = nn.Parameter(torch.tensor(3.0))

    def forward(self, pairs):
        return self.offset + (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(dim=1)


def build(seed, fill):
    torch.manual_seed(seed)
    train, val = ratings()
    model = Factors()
    fill(model.users.weight)
    fill(model.items.weight)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.02),
        train=DataLoader(train, batch_size=100, shuffle=True),
        val=DataLoader(val, batch_size=600),
        epochs=20,
        score=r2,
    )


def faulty(seed):
    return build(seed, lambda weight: nn.init.constant_(weight, 0.3))


def fixed(seed):
    return build(seed, lambda weight: nn.init.normal_(weight, std=0.3))
