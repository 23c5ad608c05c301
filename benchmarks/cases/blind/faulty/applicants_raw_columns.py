"""A credit score from five columns that are fed in as they stand in the table.

An applicant's score, in standard units, depends on birth year, salary, years in the job, number of
children and the share of income spent on rent. The columns go into the network raw: salaries of tens of
thousands beside years near 1975 and shares below one. The salary drives every hidden unit, the
outputs start hundreds of times too large, and the other columns are not heard. The repair standardizes the columns with
the training rows' mean and deviation.
"""

import torch
from case import Case, r2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CAUSES = {"inputs-not-normalized"}
WHERE = "data"


def applicants(rows, seed):
    g = torch.Generator().manual_seed(seed)
    year = torch.randint(1950, 2003, (rows,), generator=g).float()
    salary = 42_000 * torch.exp(0.4 * torch.randn(rows, generator=g))
    tenure = -6 * torch.rand(rows, generator=g).clamp(min=0.01).log()
    children = torch.randint(0, 4, (rows,), generator=g).float()
    rent = 0.1 + 0.5 * torch.rand(rows, generator=g)
    score = (
        0.7 * (salary / 42_000).log() / 0.4
        + 0.8 * torch.sin((year - 1950) / 17)
        + 0.6 * torch.tanh(tenure / 6 - 1)
        - 6 * (rent - 0.35) * (1 + 0.3 * children)
        + 0.2 * torch.randn(rows, generator=g)
    )
    score = (score - score.mean()) / score.std()
    return torch.stack([year, salary, tenure, children, rent], dim=1), score[:, None]


def mlp():
    return nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def build(seed, standardize):
    torch.manual_seed(seed)
    model = mlp()
    x, y = applicants(2000, seed)
    if standardize:
        x = (x - x[:1500].mean(dim=0)) / x[:1500].std(dim=0)
    return Case(
        model=model,
        loss=nn.SmoothL1Loss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.002),
        train=DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=50, shuffle=True),
        val=DataLoader(TensorDataset(x[1500:], y[1500:]), batch_size=500),
        epochs=20,
        score=r2,
    )


def faulty(seed):
    return build(seed, standardize=False)


def fixed(seed):
    return build(seed, standardize=True)
