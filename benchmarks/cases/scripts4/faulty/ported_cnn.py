"""A texture classifier, ported from a Keras model layer by layer."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def textures(n, gen):
    """Two-scale random fields; the class is the pair of correlation lengths. Exposure differs from image to image."""
    labels = torch.randint(6, (n,), generator=gen)
    kernels = [1, 3, 5]
    noise = torch.randn(n, 1, 16, 16, generator=gen)
    out = torch.zeros_like(noise)
    for k in range(6):
        rows = labels == k
        h, w = kernels[k % 3], kernels[k // 2]
        out[rows] = nn.functional.avg_pool2d(noise[rows], (h, w), stride=1, padding=(h // 2, w // 2)) * (h * w) ** 0.5
    exposure = torch.exp(0.8 * torch.randn(n, 1, 1, 1, generator=gen))
    return out * exposure + 1.5 * torch.randn(n, 1, 1, 1, generator=gen), labels


def layer(cin, cout):
    return [
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout, eps=1e-3, momentum=0.99),
        nn.ReLU(),
    ]


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(12 + args.seed)
gen = torch.Generator().manual_seed(31)
train_set, test_set = TensorDataset(*textures(1602, gen)), TensorDataset(*textures(600, gen))
train_loader = DataLoader(train_set, args.batch_size, shuffle=True)
test_loader = DataLoader(test_set, 200)

model = nn.Sequential(
    *layer(1, 12), *layer(12, 12), nn.MaxPool2d(2), *layer(12, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 6)
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, eps=1e-7)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(args.epochs):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        results = [(loss_fn(model(i), t).item(), (model(i).argmax(1) == t).float().mean().item()) for i, t in test_loader]
    test_loss = sum(r[0] for r in results) / len(results)
    test_acc = sum(r[1] for r in results) / len(results)
    print(f"epoch {epoch + 1} loss {loss.item():.4f} test loss {test_loss:.4f} test acc {test_acc:.4f}")
