"""Predict the total of a shopping basket from the product ids in it (ids run from 0)."""

import torch
from torch import nn
from torch.utils.data import DataLoader

PRODUCTS = 40


def baskets(n, seed, prices, popularity):
    g = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(n):
        size = int(torch.randint(1, 12, (1,), generator=g))
        items = torch.multinomial(popularity, size, replacement=True, generator=g)
        total = prices[items].sum() - 0.5 * prices[items].max()
        out.append((items, total))
    return out


def collate(rows):
    items = torch.cat([r[0] for r in rows])
    offsets = torch.tensor([0] + [len(r[0]) for r in rows[:-1]]).cumsum(0)
    totals = torch.stack([r[1] for r in rows])
    return items, offsets, totals


class BasketModel(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.bag = nn.EmbeddingBag(PRODUCTS, dim, mode="sum", padding_idx=0)
        self.mlp = nn.Sequential(nn.Linear(dim, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, items, offsets):
        return self.mlp(self.bag(items, offsets)).squeeze(-1)


torch.manual_seed(5)
prices = torch.rand(PRODUCTS, generator=torch.Generator().manual_seed(0)) * 2
prices[0] = 1.6
popularity = 1.0 / torch.arange(1.0, PRODUCTS + 1)
train = baskets(3000, 1, prices, popularity)
test = collate(baskets(1000, 2, prices, popularity))
mean = torch.stack([t for _, t in train]).mean()
std = torch.stack([t for _, t in train]).std()

model = BasketModel()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
loader = DataLoader(train, batch_size=64, shuffle=True, collate_fn=collate)
for epoch in range(20):
    running = 0.0
    for items, offsets, totals in loader:
        optimizer.zero_grad()
        loss = nn.functional.smooth_l1_loss(model(items, offsets), (totals - mean) / std)
        loss.backward()
        optimizer.step()
        running += loss.item()
    scheduler.step()
    with torch.no_grad():
        error = (model(test[0], test[1]) * std + mean - test[2]).abs().mean()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {running / len(loader):.4f} test mean absolute error {error:.4f}")
