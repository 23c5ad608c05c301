"""Diabetes with batches that are dictionaries, standardized inputs and targets, and early stopping."""

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Table(Dataset):
    def __init__(self, features, target):
        self.features, self.target = features, target

    def __len__(self):
        return len(self.target)

    def __getitem__(self, i):
        return {"features": self.features[i], "target": self.target[i]}


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, batch):
        return self.layers(batch["features"]).squeeze(-1)


torch.manual_seed(0)
x, y = load_diabetes(return_X_y=True, scaled=False)
x, y = torch.tensor(x).float(), torch.tensor(y).float()
order = torch.randperm(len(x))
train, val = order[:340], order[340:]
x = (x - x[train].mean(0)) / x[train].std(0)
y = (y - y[train].mean()) / y[train].std()
train_loader = DataLoader(Table(x[train], y[train]), batch_size=32, shuffle=True)
val_loader = DataLoader(Table(x[val], y[val]), batch_size=64)

model, loss_fn = Regressor(), nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
best, patience = float("inf"), 0
for _ in range(40):
    model.train()
    for batch in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(model(batch), batch["target"])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = sum(loss_fn(model(b), b["target"]).item() * len(b["target"]) for b in val_loader) / len(val)
    if val_loss < best:
        best, patience = val_loss, 0
    else:
        patience += 1
        if patience == 8:
            break
print(f"best val loss {best:.3f}")
