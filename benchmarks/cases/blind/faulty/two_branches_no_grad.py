"""A demand forecast from a series and four attributes; the series branch runs without gradients.

Each row holds a shop's last 24 daily sales and four attributes; the next week's demand depends on both.
`forward` cuts the row in two, reads the series with an LSTM and the attributes with a small MLP and joins
them. The LSTM was wrapped into `torch.no_grad()` while a pretrained one was tried, and stayed so: it is in
the optimizer but no gradient reaches it. The repair takes the `no_grad` away.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"loss-detached"}
WHERE = "series"

DAYS = 24


class Demand(nn.Module):
    def __init__(self, without_gradient):
        super().__init__()
        self.without_gradient = without_gradient
        self.series = nn.LSTM(1, 24, batch_first=True)
        self.attributes = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
        self.joint = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 1))

    def read_series(self, sales):
        _, (last, _) = self.series(sales.unsqueeze(-1))
        return last[-1]

    def forward(self, x):
        sales, attributes = x[:, :DAYS], x[:, DAYS:]
        if self.without_gradient:
            with torch.no_grad():
                summary = self.read_series(sales)
        else:
            summary = self.read_series(sales)
        return self.joint(torch.cat([summary, self.attributes(attributes)], dim=1))


def shops(rows, seed):
    g = torch.Generator().manual_seed(seed)
    sales = torch.randn(rows, DAYS, generator=g)
    attributes = torch.randn(rows, 4, generator=g)
    highest = sales.max(dim=1).values  # the best day sets how much is ordered
    demand = (highest - 1.95) / 0.5 + 0.5 * attributes[:, 0] + 0.3 * attributes[:, 1] * attributes[:, 2]
    demand = demand / 1.2 + 0.1 * torch.randn(rows, generator=g)
    return torch.cat([sales, attributes], dim=1), demand[:, None]


def build(seed, without_gradient):
    torch.manual_seed(seed)
    model = Demand(without_gradient)
    x, y = shops(2000, seed)
    return Case(
        model=model,
        loss=nn.MSELoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.005),
        train=DataLoader(TensorDataset(x[:1600], y[:1600]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[1600:], y[1600:]), batch_size=400),
        epochs=15,
        score=r2,
    )


def faulty(seed):
    return build(seed, without_gradient=True)


def fixed(seed):
    return build(seed, without_gradient=False)
