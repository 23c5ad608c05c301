"""Ratings from user and item embeddings, under Adagrad at Adam's usual rate.

A factor model (two embeddings, their product, two biases) predicts the rating a user gives an item.
Adagrad divides each step by the root of all squared gradients so far, so a rate of 0.001, copied
from an Adam program, hardly moves the embeddings in the epochs given. The repair is a rate of 0.2.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"learning-rate-too-low", "too-few-updates"}
WHERE = "optimizer"
USERS, ITEMS = 80, 50


class Factors(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.user = nn.Embedding(USERS, width)
        self.item = nn.Embedding(ITEMS, width)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        for table in (self.user, self.item, self.user_bias, self.item_bias):
            nn.init.normal_(table.weight, std=0.2)

    def forward(self, pairs):
        user, item = pairs[:, 0], pairs[:, 1]
        agreement = (self.user(user) * self.item(item)).sum(dim=1)
        return agreement + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)


def ratings():
    tastes, traits = torch.randn(USERS, 2), torch.randn(ITEMS, 2)
    mood, quality = 0.5 * torch.randn(USERS, 1), 0.7 * torch.randn(ITEMS)
    table = 0.6 * tastes @ traits.T + mood + quality + 0.2 * torch.randn(USERS, ITEMS)
    pairs = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS))
    return pairs, table.flatten()


def build(seed, rate):
    torch.manual_seed(seed)
    pairs, values = ratings()
    order = torch.randperm(len(pairs))
    train, val = order[:3000], order[3000:]
    model = Factors()
    return Case(
        model=model,
        loss=nn.HuberLoss(),
        optimizer=torch.optim.Adagrad(model.parameters(), lr=rate),
        train=DataLoader(TensorDataset(pairs[train], values[train]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(pairs[val], values[val]), batch_size=500),
        epochs=15,
        score=r2,
    )


def faulty(seed):
    return build(seed, 0.001)


def fixed(seed):
    return build(seed, 0.2)
