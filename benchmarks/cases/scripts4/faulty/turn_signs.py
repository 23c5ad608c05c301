"""Road signs: turn left, turn right, straight on, no entry; flips and noise as augmentation."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ["left", "right", "straight", "no entry"]


def draw(kind, gen):
    img = torch.zeros(12, 12)
    r, c = (int(v) for v in torch.randint(-1, 2, (2,), generator=gen))
    if kind in (0, 1):
        img[5 + r : 7 + r, 2:10] = 1
        for k in range(4):
            col = 2 + k if kind == 0 else 9 - k
            img[5 - k + r : 7 + k + r, col + c] = 1
    elif kind == 2:
        img[2:10, 5 + c : 7 + c] = 1
        for k in range(3):
            img[2 + k + r, 5 - k + c : 7 + k + c] = 1
    else:
        img[5 + r : 7 + r, 2:10] = 1
    return img + 0.45 * torch.randn(12, 12, generator=gen)


class Signs(Dataset):
    def __init__(self, n, seed, augment):
        gen = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(4, (n,), generator=gen)
        self.images = torch.stack([draw(int(k), gen) for k in self.labels]).unsqueeze(1)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image, label = self.images[i], self.labels[i]
        if self.augment:
            if torch.rand(()) < 0.5:
                image = torch.flip(image, dims=[2])
            image = image * (0.8 + 0.4 * torch.rand(()))
        return image, label


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))


torch.manual_seed(3)
train = DataLoader(Signs(1500, 1, augment=True), batch_size=50, shuffle=True)
val = DataLoader(Signs(600, 2, augment=False), batch_size=200)
model = nn.Sequential(conv(1, 12), conv(12, 24), nn.Flatten(), nn.Linear(216, 4))
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(14):
    model.train()
    total = 0.0
    for x, y in train:
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        hits = torch.cat([model(x).argmax(1) == y for x, y in val]).float().mean().item()
    print(f"epoch {epoch + 1} train loss {total / len(train):.4f} val accuracy {hits:.4f}")
