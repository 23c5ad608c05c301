"""Siamese network: do two handwritten digits show the same number? Cosine embedding loss on pairs."""

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, x, y, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x, self.items = x, []
        for k in range(n):
            i = int(torch.randint(len(x), (1,), generator=g))
            same = k % 2
            pool = torch.where((y == y[i]) if same else (y != y[i]))[0]
            j = int(pool[torch.randint(len(pool), (1,), generator=g)])
            self.items.append((i, j, float(same)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        i, j, same = self.items[k]
        return self.x[i], self.x[j], torch.tensor(same)


class Tower(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU())
        self.project = nn.Linear(128, dim)

    def forward(self, x):
        return self.project(self.conv(x).flatten(1))


torch.manual_seed(4)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
train = DataLoader(Pairs(x[:1300], y[:1300], 4000, 1), batch_size=50, shuffle=True)
test = DataLoader(Pairs(x[1300:], y[1300:], 1000, 2), batch_size=250)

tower = Tower()
criterion = nn.CosineEmbeddingLoss(margin=0.2)
optimizer = torch.optim.Adam(tower.parameters(), lr=1e-3)
for epoch in range(8):
    tower.train()
    total = 0.0
    for a, b, same in train:
        optimizer.zero_grad()
        loss = criterion(tower(a), tower(b), same)
        loss.backward()
        optimizer.step()
        total += loss.item()
    tower.eval()
    with torch.no_grad():
        scored = [(nn.functional.cosine_similarity(tower(a), tower(b)), s) for a, b, s in test]
    auc = roc_auc_score(torch.cat([s for _, s in scored]), torch.cat([c for c, _ in scored]))
    print(f"epoch {epoch + 1} loss {total / len(train):.4f} test auc {auc:.4f}")
