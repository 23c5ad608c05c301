"""A wide network with half of its units dropped and a max-norm constraint."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def max_norm_(model, limit=3.0):
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.Linear):
                m.weight.copy_(torch.renorm(m.weight, 2, 0, limit))


torch.manual_seed(1)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
train = DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=50, shuffle=True)
xv, yv = x[1300:], y[1300:]

model = nn.Sequential(
    nn.Dropout(0.1),
    nn.Linear(64, 512),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(512, 512),
    nn.ReLU(),
    nn.Dropout(0.5),
    nn.Linear(512, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)
for epoch in range(30):
    model.train()
    total = 0.0
    for xb, yb in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        max_norm_(model)
        total += loss.item()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        out = model(xv)
    if epoch % 5 == 4:
        print(
            f"epoch {epoch + 1} train {total / len(train):.4f} val loss {nn.functional.cross_entropy(out, yv):.4f} "
            f"val acc {(out.argmax(1) == yv).float().mean():.4f}"
        )
