"""Digits with custom collate functions: the training one jitters and scales."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class DigitImages(Dataset):
    def __init__(self, part):
        d = load_digits()
        order = torch.randperm(len(d.target), generator=torch.Generator().manual_seed(0))
        keep = order[:1350] if part == "train" else order[1350:]
        self.images = torch.tensor(d.images, dtype=torch.float32)[keep]
        self.labels = torch.tensor(d.target)[keep]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"image": self.images[i], "label": self.labels[i]}


def train_collate(rows):
    images = torch.stack([r["image"] for r in rows])
    images = images / 16.0 + 0.05 * torch.randn_like(images)
    return {"image": images.unsqueeze(1), "label": torch.stack([r["label"] for r in rows])}


def val_collate(rows):
    images = torch.stack([r["image"] for r in rows])
    return {"image": images.unsqueeze(1), "label": torch.stack([r["label"] for r in rows])}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.flatten(1))


torch.manual_seed(9)
train = DataLoader(DigitImages("train"), batch_size=45, shuffle=True, collate_fn=train_collate)
val = DataLoader(DigitImages("val"), batch_size=149, collate_fn=val_collate)
net = Net()
opt = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
for epoch in range(8):
    net.train()
    total = 0.0
    for batch in train:
        loss = nn.functional.cross_entropy(net(batch["image"]), batch["label"])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    net.eval()
    hits, val_loss = 0, 0.0
    with torch.no_grad():
        for batch in val:
            logits = net(batch["image"])
            val_loss += nn.functional.cross_entropy(logits, batch["label"], reduction="sum").item()
            hits += (logits.argmax(1) == batch["label"]).sum().item()
    print(
        f"epoch {epoch + 1} train loss {total / len(train):.4f} "
        f"val loss {val_loss / len(val.dataset):.4f} val acc {hits / len(val.dataset):.4f}"
    )
