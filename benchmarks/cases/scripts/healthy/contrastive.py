"""A siamese network with a contrastive loss on pairs of digits."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    def __init__(self, x, y, seed):
        self.x, self.y = x, y
        generator = torch.Generator().manual_seed(seed)
        partner = torch.randint(len(x), (len(x),), generator=generator)
        for i in range(0, len(x), 2):  # every second pair is of one class
            same = (y == y[i]).nonzero().flatten()
            partner[i] = same[torch.randint(len(same), (1,), generator=generator)]
        self.partner = partner

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        j = self.partner[i]
        return self.x[i], self.x[j], (self.y[i] == self.y[j]).float()


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, a, b):
        return self.embed(a), self.embed(b)


def contrastive_loss(a, b, same, margin=1.0):
    distance = F.pairwise_distance(a, b)
    return (same * distance.pow(2) + (1 - same) * F.relu(margin - distance).pow(2)).mean()


torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16 - 0.3
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
x, y = x[order], y[order]
train = DataLoader(Pairs(x[:1400], y[:1400], 0), batch_size=64, shuffle=True)
val = DataLoader(Pairs(x[1400:], y[1400:], 1), batch_size=128)

model = Siamese()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(10):
    model.train()
    for a, b, same in train:
        loss = contrastive_loss(*model(a, b), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    val_loss, batches = 0.0, 0
    with torch.no_grad():
        for a, b, same in val:
            val_loss += contrastive_loss(*model(a, b), same).item()
            batches += 1
    print(f"epoch {epoch} val_loss {val_loss / batches:.4f}")
