"""Turnover of shops from polars columns; the shop itself (900 of them) comes in by its mean in the training months."""
import numpy as np
import polars as pl
import torch
from torch import nn

rng = np.random.default_rng(8)
n, shops = 2700, 900
frame = pl.DataFrame(
    {
        "shop": rng.integers(0, shops, n),
        "area": rng.lognormal(4, 0.4, n),
        "staff": rng.poisson(6, n),
        "promo": rng.integers(0, 2, n),
        "month": np.repeat(np.arange(9), n // 9),
    }
)
local = 0.3 * rng.standard_normal(shops)[frame["shop"].to_numpy()]
frame = frame.with_columns(
    turnover=pl.Series(
        np.log(frame["area"].to_numpy()) + 0.2 * frame["staff"].to_numpy() + 0.8 * frame["promo"].to_numpy() + local + rng.standard_normal(n) - 5
    )
)
past, train, test = frame.filter(pl.col("month") < 4), frame.filter(pl.col("month").is_between(4, 6)), frame.filter(pl.col("month") > 6)

known = train.group_by("shop").agg(shop_mean=pl.col("turnover").mean())


def build(part):
    part = part.join(known, on="shop", how="left").with_columns(pl.col("shop_mean").fill_null(0.0))
    x = part.select(pl.col("area").log(), "staff", "promo", "shop_mean").to_numpy()
    return torch.tensor(x, dtype=torch.float32), torch.tensor(part["turnover"].to_numpy(), dtype=torch.float32)


x, y = build(train)
xt, yt = build(test)
mean, std = x.mean(0), x.std(0)
x, xt = (x - mean) / std, (xt - mean) / std
torch.manual_seed(8)
model = nn.Sequential(nn.Linear(4, 32), nn.Softplus(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(40):
    for i in torch.randperm(len(x)).split(64):
        loss = nn.functional.mse_loss(model(x[i]).squeeze(1), y[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 10 == 9:
        with torch.no_grad():
            print(f"epoch {epoch} train mse {loss.item():.4f} test mse {nn.functional.mse_loss(model(xt).squeeze(1), yt).item():.4f}")
