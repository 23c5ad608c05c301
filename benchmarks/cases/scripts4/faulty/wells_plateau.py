"""Yield of wells by a residual network on tables, the learning rate lowered when validation stalls."""

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width)
        self.back = nn.Linear(width, width)

    def forward(self, x):
        return x + self.back(torch.relu(self.fc(self.norm(x))))


class WellNet(nn.Module):
    def __init__(self, features, width=48, blocks=2):
        super().__init__()
        self.stem = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).squeeze(-1)


torch.manual_seed(23)
x, y = make_friedman1(n_samples=3000, n_features=10, noise=0.5, random_state=1)
x = torch.tensor(x, dtype=torch.float32) * 3.46 - 1.73
y = torch.tensor(y, dtype=torch.float32)
y = (y - y[:2400].mean()) / y[:2400].std()
loader = DataLoader(TensorDataset(x[:2400], y[:2400]), batch_size=48, shuffle=True)

model = WellNet(10)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=1)
for epoch in range(25):
    model.train()
    total = 0.0
    for xb, yb in loader:
        loss = nn.functional.mse_loss(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        val_loss = nn.functional.mse_loss(model(x[2400:]), y[2400:])
    scheduler.step(val_loss)
    if epoch % 4 == 0:
        print(f"epoch {epoch + 1} train {total / len(loader):.4f} val mse {val_loss:.4f}")
