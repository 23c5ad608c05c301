"""Reuse a network made for ten digits as a regressor of ink and tilt: new head, all layers trained."""

import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 15


class Digits(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16), nn.ReLU())
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(self.features(x))


def make_targets(images):
    """Total ink and its horizontal and vertical centre, each standardized."""
    ink = images.sum((1, 2))
    axis = torch.arange(8.0)
    cx = (images.sum(1) * axis).sum(1) / ink
    cy = (images.sum(2) * axis).sum(1) / ink
    t = torch.stack([ink, cx, cy], 1)
    return (t - t.mean(0)) / t.std(0)


torch.manual_seed(1)
images = torch.tensor(load_digits().images, dtype=torch.float32)
targets = make_targets(images)
x = images.flatten(1) / 16
perm = torch.randperm(len(x))
tr, te = perm[:1400], perm[1400:]
loader = DataLoader(TensorDataset(x[tr], targets[tr]), batch_size=32, shuffle=True)

model = Digits()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
model.fc = nn.Linear(16, 3)
criterion = nn.MSELoss()

for epoch in range(EPOCHS):
    model.train()
    total = 0.0
    for xb, tb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), tb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    model.eval()
    with torch.no_grad():
        val = criterion(model(x[te]), targets[te]).item()
    print(f"epoch {epoch + 1} train {total / len(tr):.5f} test mse {val:.5f}")
