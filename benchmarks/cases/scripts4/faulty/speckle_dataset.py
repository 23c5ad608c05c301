"""Satellite patches with speckle added on the fly in the data set."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Patches(Dataset):
    def __init__(self, images, labels, speckle=0.0):
        self.images, self.labels, self.speckle = images, labels, speckle

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        patch = self.images[i]
        if self.speckle:
            patch += self.speckle * torch.randn_like(patch)
        return patch, self.labels[i]


class PatchNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 10),
        )


torch.manual_seed(10)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
labels = torch.tensor(digits.target)
perm = torch.randperm(len(labels))
train_set = Patches(images[perm[:1200]], labels[perm[:1200]], speckle=0.4)
val_set = Patches(images[perm[1200:]], labels[perm[1200:]])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
val_loader = DataLoader(val_set, batch_size=256)

net = PatchNet()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(24):
    net.train()
    loss_sum = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item()
    net.eval()
    with torch.no_grad():
        outs = [(net(x), y) for x, y in val_loader]
        val_loss = sum(nn.functional.cross_entropy(o, y, reduction="sum").item() for o, y in outs) / len(val_set)
        acc = sum((o.argmax(1) == y).sum().item() for o, y in outs) / len(val_set)
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} train {loss_sum / len(train_loader):.4f} val loss {val_loss:.4f} val acc {acc:.4f}")
