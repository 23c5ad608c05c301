"""Digits with offline augmentation: every image is used once clean and once shifted and noisy."""
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.RandomState(0)
torch.manual_seed(0)
torch.set_num_threads(1)


def shift(img):
    dx = rng.choice([-1, 0, 1])
    return np.roll(img, dx, axis=1)


def augment(images):
    out = np.stack([shift(im) for im in images])
    out = out + rng.normal(0, 0.5, out.shape)
    return np.clip(out, 0, 16)


digits = load_digits()
order = rng.permutation(len(digits.target))
images, labels = digits.images[order], digits.target[order]
x_val, y_val = images[:360], labels[:360]
x_train, y_train = images[360:], labels[360:]

x_train = np.concatenate([x_train, augment(x_train)])
y_train = np.repeat(y_train, 2)
print("train set after augmentation:", x_train.shape, y_train.shape)


def to_tensor(x):
    return torch.tensor(x / 16.0, dtype=torch.float32).unsqueeze(1)


train_dl = DataLoader(TensorDataset(to_tensor(x_train), torch.tensor(y_train)), batch_size=64, shuffle=True)
xv, yv = to_tensor(x_val), torch.tensor(y_val)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
)
opt = optim.Adam(model.parameters(), lr=1e-3)
ce = nn.CrossEntropyLoss()

for epoch in range(10):
    model.train()
    run_loss, hit, n = 0.0, 0, 0
    for xb, yb in train_dl:
        logits = model(xb)
        loss = ce(logits, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        run_loss += loss.item() * len(xb)
        hit += (logits.argmax(1) == yb).sum().item()
        n += len(xb)
    model.eval()
    with torch.no_grad():
        val_acc = (model(xv).argmax(1) == yv).float().mean().item()
    print(f"epoch {epoch} train loss {run_loss / n:.4f} train acc {hit / n:.3f} val acc {val_acc:.3f}")
