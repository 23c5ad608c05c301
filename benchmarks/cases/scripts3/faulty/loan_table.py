"""Will the credit be paid back? A table from three sources, some entries of it missing."""
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 17
rng = np.random.default_rng(SEED)
torch.manual_seed(SEED)


def load(n=3000):
    df = pd.DataFrame(
        {
            "income": rng.lognormal(10.4, 0.5, n),
            "age": rng.integers(19, 75, n).astype(float),
            "debt": rng.gamma(2.0, 6000.0, n),
            "late_payments": rng.poisson(1.0, n).astype(float),
            "owner": rng.integers(0, 2, n).astype(float),
        }
    )
    z = 1.8 * np.log(df.income / 33000) - df.debt / 9000 - 0.9 * df.late_payments + 0.8 * df.owner + (df.age > 40) + 1.5
    df["paid"] = (z + 0.5 * rng.logistic(size=n) > 0).astype(int)
    df.loc[rng.random(n) < 0.04, "debt"] = np.nan
    return df


df = load()
features = ["income", "age", "debt", "late_payments", "owner"]
df["income"] = np.log(df["income"])
train, test = df.iloc[:2400], df.iloc[2400:]
mu, sd = train[features].mean(), train[features].std()


def tensors(part):
    x = (part[features] - mu) / sd
    return torch.tensor(x.to_numpy(), dtype=torch.float32), torch.tensor(part["paid"].to_numpy(), dtype=torch.float32)


loader = DataLoader(TensorDataset(*tensors(train)), batch_size=64, shuffle=True)
x_test, y_test = tensors(test)


class Scorer(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.hidden1 = nn.Linear(n_in, 32)
        self.hidden2 = nn.Linear(32, 16)
        self.logit = nn.Linear(16, 1)

    def forward(self, x):
        x = torch.relu(self.hidden1(x))
        x = torch.relu(self.hidden2(x))
        return self.logit(x).view(-1)


net = Scorer(len(features))
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(15):
    net.train()
    losses = []
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        acc = ((net(x_test) > 0).float() == y_test).float().mean().item()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {np.mean(losses):.4f} test acc {acc:.4f}")
