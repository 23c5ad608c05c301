"""One machine in fifty fails: weighted loss, average precision on held-out machines."""

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def machines(n, rng):
    x = rng.standard_normal((n, 16)).astype(np.float32)
    risk = 1.6 * x[:, 0] * x[:, 1] + 1.2 * np.abs(x[:, 2]) + 0.8 * x[:, 3] + 0.3 * rng.standard_normal(n)
    return x, risk


class Risk(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.logit = nn.Linear(64, 1)

    def forward(self, x):
        return self.logit(self.body(x)).squeeze(1)


torch.manual_seed(0)
rng = np.random.default_rng(0)
xtr, rtr = machines(8000, rng)
xte, rte = machines(4000, rng)
cut = np.quantile(rtr, 0.98)
ytr, yte = (rtr > cut).astype(np.float32), (rte > cut).astype(np.float32)
loader = DataLoader(TensorDataset(torch.from_numpy(xtr), torch.from_numpy(ytr)), batch_size=200, shuffle=True)

model = Risk()
pos_weight = torch.tensor([float((1 - ytr).sum() / ytr.sum()) ** 0.5])
criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
for epoch in range(12):
    model.train()
    total = 0.0
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        ap = average_precision_score(yte, model(torch.from_numpy(xte)).numpy())
    print(f"epoch {epoch + 1} loss {total / len(loader):.4f} average precision {ap:.4f} (prevalence {yte.mean():.4f})")
