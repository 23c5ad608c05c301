"""Two heads on one trunk: the price of a parcel (regression) and whether it comes late (classification)."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Parcels(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, 10)).astype(np.float32)
        price = 180 + 40 * x[:, 0] + 25 * np.tanh(x[:, 1] * x[:, 2]) + 15 * np.abs(x[:, 3]) + 5 * rng.standard_normal(n)
        late = np.sin(1.5 * x[:, 4]) + x[:, 5] * x[:, 6] + 0.2 * rng.standard_normal(n) > 0
        self.x, self.price, self.late = x, price.astype(np.float32), late.astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"features": self.x[i], "price": self.price[i], "late": self.late[i]}


class ParcelNet(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, hidden), nn.Mish(), nn.Linear(hidden, hidden), nn.Mish())
        self.price_head = nn.Linear(hidden, 1)
        self.late_head = nn.Linear(hidden, 1)

    def forward(self, batch):
        h = self.trunk(batch["features"])
        return {"price": self.price_head(h).squeeze(-1), "late": self.late_head(h).squeeze(-1)}


MU, SIGMA = 192.0, 46.0


def multitask_loss(out, batch):
    price = F.mse_loss(out["price"], (batch["price"] - MU) / SIGMA)
    late = F.binary_cross_entropy_with_logits(out["late"], batch["late"])
    return price + late, price, late


def evaluate(model, loader):
    model.eval()
    hits = n = 0
    with torch.no_grad():
        for batch in loader:
            out = model(batch)
            hits += ((out["late"] > 0).float() == batch["late"]).sum().item()
            n += len(batch["late"])
    return hits / n


torch.manual_seed(12)
train_loader = DataLoader(Parcels(3000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(Parcels(800, 1), batch_size=400)
model = ParcelNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.8)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
for epoch in range(20):
    model.train()
    for batch in train_loader:
        loss, price, late = multitask_loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
    scheduler.step()
    if epoch % 4 == 3:
        print(f"epoch {epoch} price {price.item():.4f} late {late.item():.4f} late accuracy {evaluate(model, test_loader):.4f}")
