"""Train on augmented digits with a DataLoader that uses worker processes."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class AugmentedDigits(Dataset):
    def __init__(self, images, labels, augment):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        img = torch.from_numpy(self.images[i]).float().div(16)
        if self.augment:
            dx = int(torch.randint(-1, 2, (1,)))
            img = torch.roll(img, dx, dims=1)
            img = img + 0.05 * torch.randn_like(img)
        return (img.unsqueeze(0) - 0.3) / 0.38, int(self.labels[i])


def main():
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    d = load_digits()
    order = np.random.permutation(len(d.target))
    tr, te = order[:1400], order[1400:]
    train_loader = DataLoader(AugmentedDigits(d.images[tr], d.target[tr], True), batch_size=64, shuffle=True,
                              num_workers=2, persistent_workers=True)
    test_loader = DataLoader(AugmentedDigits(d.images[te], d.target[te], False), batch_size=200)
    model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 24, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(10):
        model.train()
        seen, tot = 0, 0.0
        for images, labels in train_loader:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            tot += loss.item() * labels.numel()
            seen += labels.numel()
        model.eval()
        ok = 0
        with torch.no_grad():
            for images, labels in test_loader:
                ok += (model(images).argmax(1) == labels).sum().item()
        print(f"epoch {epoch} loss {tot / seen:.4f} test acc {ok / len(te):.4f}")


if __name__ == "__main__":
    main()
