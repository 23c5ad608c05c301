"""Transfer: a network is trained on digits 0 to 4, then frozen below a new head for digits 5 to 9."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def features():
    return nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())


def fit(model, parameters, x, y, x_val, y_val, epochs, lr):
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            if len(rows) < 2:
                continue
            optimizer.zero_grad()
            loss = criterion(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        was = [m.training for m in model.modules()]
        model.eval()
        with torch.no_grad():
            val_loss = criterion(model(x_val), y_val).item()
        for module, mode in zip(model.modules(), was, strict=True):
            module.training = mode
        print(f"{epoch}: {val_loss:.4f}")


torch.manual_seed(0)
data = load_digits()
x, y = (torch.tensor(data.data).float() - 4.88) / 6.02, torch.tensor(data.target)
low = (y < 5).nonzero().flatten()
high = (y >= 5).nonzero().flatten()

body = features()
model = nn.Sequential(body, nn.Linear(64, 5))
fit(model, model.parameters(), x[low[:700]], y[low[:700]], x[low[700:]], y[low[700:]], epochs=6, lr=0.02)

for p in body.parameters():
    p.requires_grad_(False)
body.eval()
head = nn.Linear(64, 5)
model = nn.Sequential(body, head)
body.eval()
fit(model, head.parameters(), x[high[:700]], y[high[:700]] - 5, x[high[700:]], y[high[700:]] - 5, epochs=8, lr=0.1)
