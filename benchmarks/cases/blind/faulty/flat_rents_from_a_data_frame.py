"""Rents of flats, straight from the columns of a data frame: two faults.

The inputs are the columns as they are: year built (about 1970), area in square metres, the
income of the district (about 38,000), and five ratings. The rents are standardized, but come
as one column of shape [N] while the network gives [N, 1]; the squared error then compares every
prediction with every rent of the batch. The repair standardizes the columns and gives the rents
the shape [N, 1].
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"inputs-not-normalized", "loss-broadcast"}
WHERE = "data"


def flats(rows):
    z = torch.randn(rows, 8)
    rent = 0.9 * z[:, 1] + 0.6 * z[:, 2] * (z[:, 2] > 0) + 0.4 * z[:, 0] * z[:, 3] + 0.3 * z[:, 4]
    x = z.clone()
    x[:, 0] = (1970 + 18 * z[:, 0]).round()
    x[:, 1] = 75 + 22 * z[:, 1]
    x[:, 2] = 38_000 + 7_000 * z[:, 2]
    return x, rent + 0.2 * torch.randn(rows)


def squared_error(outputs, targets):
    return ((outputs - targets) ** 2).mean()


def build(seed, repaired):
    torch.manual_seed(seed)
    (x, y), (x_val, y_val) = flats(1500), flats(400)
    mean, spread = y.mean(), y.std()
    y, y_val = (y - mean) / spread, (y_val - mean) / spread
    if repaired:
        mean, spread = x.mean(dim=0), x.std(dim=0)
        x, x_val = (x - mean) / spread, (x_val - mean) / spread
        y, y_val = y[:, None], y_val[:, None]
    model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1))
    return Case(
        model=model,
        loss=squared_error,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
        train=DataLoader(TensorDataset(x, y), batch_size=30, shuffle=True),
        val=DataLoader(TensorDataset(x_val, y_val), batch_size=400),
        epochs=16,
        score=r2,
    )


def faulty(seed):
    return build(seed, repaired=False)


def fixed(seed):
    return build(seed, repaired=True)
