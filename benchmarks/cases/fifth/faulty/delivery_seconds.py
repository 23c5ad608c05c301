"""Time of a delivery from six columns of an order.

Distance, parcels, floor, rush hour, rain and the driver's years are turned into the seconds that
the delivery takes, some thousands, by a small network. Training and validation rows come from two
exports of the same system.

Wrong, twice. The seconds are the target as they are; at steps of a thousandth the output layer
does not get to thousands in the epochs given. And the second export sorts its columns by name, so
that in validation the network reads, say, the distance in the place of the driver's years.

Repair: scale the target by the mean and spread of the training rows, and put the columns of the
second export in the order of the first.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"targets-not-normalized", "train-val-mismatch"}
WHERE = "data"
PLACES = {"data"}

COLUMNS = ["years", "rush", "distance", "floor", "rain", "parcels"]


def orders(rows):
    column = {
        "distance": 2 * torch.rand(rows),
        "parcels": torch.poisson(torch.full((rows,), 1.5)) / 2,
        "floor": torch.randint(0, 6, (rows,)) / 3,
        "rush": (torch.rand(rows) < 0.3).float(),
        "rain": torch.rand(rows).pow(3),
        "years": -torch.rand(rows).log(),
    }
    seconds = 900 + 1200 * column["distance"] * (1 + 0.6 * column["rush"] + 0.4 * column["rain"])
    seconds += 300 * column["floor"] * column["parcels"] - 120 * column["years"].clamp(max=3)
    return column, (seconds + 60 * torch.randn(rows)).unsqueeze(1)


def build(seed, val_columns, scaled):
    torch.manual_seed(seed)
    (train, train_y), (val, val_y) = orders(1200), orders(400)
    if scaled:
        centre, spread = train_y.mean(), train_y.std()
        train_y, val_y = (train_y - centre) / spread, (val_y - centre) / spread
    train_x = torch.stack([train[name] for name in COLUMNS], dim=1)
    val_x = torch.stack([val[name] for name in val_columns], dim=1)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.001),
        train=DataLoader(TensorDataset(train_x, train_y), batch_size=40, shuffle=True),
        val=DataLoader(TensorDataset(val_x, val_y), batch_size=400),
        epochs=20,
        score=r2,
    )


def faulty(seed):
    return build(seed, sorted(COLUMNS), scaled=False)


def fixed(seed):
    return build(seed, COLUMNS, scaled=True)
